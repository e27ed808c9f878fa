(() => {
  const home = new URL(".", document.currentScript.src);
  const fresh = async (token) => (typeof token == "function" ? token() : token);

  function connect({ app, token, onChange, mode, lang }) {
    const url = new URL(app + "/portal", home);
    url.hash = "origin=" + encodeURIComponent(origin);
    if (lang) url.searchParams.set("lang", lang);
    let page, dialog, timer, heard;

    async function hear({ source, origin, data }) {
      if (source != page || origin != home.origin || data?.router != app) return;
      heard = 1;
      if (data.type == "token") {
        let text = "";
        try {
          text = await fresh(token);
        } catch (err) {
          console.error("connect.js: there is no token:", err);
        }
        page.postMessage({ router: app, token: text }, home.origin);
      } else if (data.type == "change") onChange?.(data.connection);
      else if (data.type == "height" && dialog) dialog.style.height = `min(${+data.height}px,100%)`;
      else if (data.type == "close") close();
    }

    function close() {
      removeEventListener("message", hear);
      clearInterval(timer);
      if (dialog) dialog.close(), dialog.remove();
      else page.close();
    }

    addEventListener("message", hear);
    if (mode == "popup") {
      page = open(url, "_blank", "popup,width=520,height=720");
      if (page) timer = setInterval(() => page.closed && close(), 500);
    }
    if (!page) {
      dialog = document.createElement("dialog");
      const frame = document.createElement("iframe");
      dialog.style.cssText = "border:0;padding:0;overflow:hidden;border-radius:8px;width:min(34rem,100%);height:min(44rem,100%)";
      frame.style.cssText = "border:0;display:block;width:100%;height:100%";
      dialog.ariaLabel = frame.title = "HubSpot";
      frame.src = url;
      frame.onload = () => {
        frame.blur(); // it got the focus too early
        frame.focus();
        setTimeout(() => heard || console.error("connect.js: no answer: is", origin, "in portal.parents?"), 5e3);
      };
      dialog.append(frame);
      dialog.onclose = close;
      document.body.append(dialog);
      dialog.showModal();
      page = frame.contentWindow;
    }
    return { close };
  }

  async function event({ app, token, name, payload }) {
    const post = async () => fetch(new URL(`../api/v1/apps/${app}/events`, home), {
      method: "POST",
      credentials: "omit",
      headers: { Authorization: "Bearer " + (await fresh(token)), "Content-Type": "application/json" },
      body: JSON.stringify({ name, payload }),
    });
    let res = await post();
    if (res.status == 401 && typeof token == "function") res = await post();
    const answer = await res.json().catch(() => ({}));
    if (res.ok) return answer;
    const text = [answer.message, answer.error].filter(Boolean).join(": ");
    throw Object.assign(new Error(text || "HTTP " + res.status), { status: res.status, violations: answer.violations || [] });
  }

  window.router = { connect, event };
})();
