package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestConsentPage: a person grants, denies and uninstalls an app on the sandbox's pages in a real browser, which follows its rules on
// where forms may lead.
func TestConsentPage(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: run e2e/install.sh")
	}
	box := sandbox.New(sandbox.Options{Hubs: []sandbox.Hub{{ID: "1001", Name: "Acme"}, {ID: "1002", Name: "Biz"}}})
	hubspot := httptest.NewServer(box)
	defer hubspot.Close()
	var tokens gjson.Result
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		code := r.URL.Query().Get("code")
		if code == "" {
			io.WriteString(w, "not connected")
			return
		}
		resp, err := http.PostForm(hubspot.URL+"/oauth/2026-03/token", url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"cid"}, "client_secret": {"csecret"}, "code": {code}, "redirect_uri": {"http://" + r.Host + "/cb"},
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		tokens = gjson.ParseBytes(body)
		io.WriteString(w, "connected")
	}))
	defer app.Close()
	const scope = "crm.objects.contacts.write"
	if err := box.Register(sandbox.App{ClientID: "cid", ClientSecret: "csecret", Name: "Shop", RedirectURLs: []string{app.URL + "/cb"}, Scopes: []string{scope}}); err != nil {
		t.Fatal(err)
	}
	link := hubspot.URL + "/oauth/authorize?" + url.Values{"client_id": {"cid"}, "redirect_uri": {app.URL + "/cb"}, "scope": {scope}, "state": {"s-1"}}.Encode()

	seen := gjson.Parse(run(t, "sdk", "node", "consent.mjs", link, hubspot.URL, chromium))
	if got := seen.Get("heading").Str; got != "Connect Shop to HubSpot" {
		t.Errorf("heading: %q", got)
	}
	if got := seen.Get("order").Raw; got != `["HubSpot account","Connect app","Cancel"]` {
		t.Errorf("order of the keyboard: %s", got)
	}
	if got := seen.Get("granted").Str; !strings.HasPrefix(got, app.URL+"/cb?code=") || !strings.Contains(got, "state=s-1") {
		t.Errorf("granted: led to %q", got)
	}
	if got := seen.Get("denied").Str; !strings.HasPrefix(got, app.URL+"/cb?error=access_denied") || !strings.Contains(got, "state=s-1") {
		t.Errorf("denied: led to %q", got)
	}
	if got := seen.Get("refused").Str; !strings.Contains(got, "client_id") {
		t.Errorf("unknown client: %q", got)
	}
	if got := seen.Get("after").Raw; tokens.Get("hub_id").Int() != 1001 || len(box.Installs()) != 0 || got != `["Search"]` {
		t.Errorf("tokens of hub %s; uninstalled: buttons %s, %v", tokens.Get("hub_id"), got, box.Installs())
	}
}
