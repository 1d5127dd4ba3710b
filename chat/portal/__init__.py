"""The pages of the portal: accounts, the chat page, files, shared conversations."""
