// The script of a team's page: it opens the connect page and remembers what it is told. The page's address says how.
const how = new URLSearchParams(location.search);
const account = how.get("account");
window.changes = [];
window.tokens = 0;
const token = async () => {
  const old = how.has("old") && tokens === 0 ? "&old" : "";
  tokens++;
  return (await fetch(`/token?account=${account}${old}`)).text();
};
document.getElementById("hubspot").addEventListener("click", () => {
  window.handle = router.connect({
    app: how.get("app") ?? "crm", token, mode: how.get("mode") ?? undefined, lang: how.get("lang") ?? undefined, onChange: (c) => changes.push([c.status, c.hub, c.problem].filter(Boolean).join(" ")),
  });
});
