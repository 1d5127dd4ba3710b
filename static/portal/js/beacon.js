/* Tells the server of errors on the page: a script that failed, a file that is missing, something that the security policy stopped.
   A plain script that is loaded first, so that it is there when a module is not. Nothing that people write is ever sent. */
(function () {
  'use strict';
  var address = document.currentScript.dataset.address;
  var left = 5;
  var told = {};

  function tell(kind, what, where, line) {
    var report = {
      kind: kind, message: String(what || '').slice(0, 300), source: path(where), line: line || 0, page: location.pathname.replace(/\d+/g, '0')
    };
    var key = report.kind + report.message + report.source + report.line;
    if (left <= 0 || told[key]) return;
    told[key] = true;
    left -= 1;
    fetch(address, {
      method: 'POST', keepalive: true, credentials: 'same-origin', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(report)
    }).catch(function () { /* The server is away: there is nobody to tell. */ });
  }

  function path(source) {
    try { return source ? new URL(source, location.href).pathname.slice(0, 200) : ''; } catch (_) { return ''; }
  }

  window.addEventListener('error', function (event) {
    var from = event.target;
    if (from && from !== window && (from.src || from.href)) tell('missing', from.tagName.toLowerCase(), from.src || from.href);
    else tell('script', event.message, event.filename, event.lineno);
  }, true);
  window.addEventListener('unhandledrejection', function (event) {
    var reason = event.reason;
    tell('promise', reason && reason.name ? reason.name + ': ' + reason.message : reason);
  });
  document.addEventListener('securitypolicyviolation', function (event) {
    tell('policy', event.effectiveDirective, event.blockedURI === 'inline' || event.blockedURI === 'eval' ? event.sourceFile : event.blockedURI, event.lineNumber);
  });
}());
