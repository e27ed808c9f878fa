// Tells the connect page, which has opened this window, how it ended. That closes the window; without it people read what the page says.
const { app, outcome, detail } = document.querySelector("main").dataset;
if (window.opener) window.opener.postMessage({ router: app, outcome, detail }, location.origin);
