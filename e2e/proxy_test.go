package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestOfficialClientThroughProxy: HubSpot's own client works through the proxy with another base path and token, in two accounts at once; nothing of the one is in the other's hub.
func TestOfficialClientThroughProxy(t *testing.T) {
	t.Parallel()
	r := newConnectRig(t)
	r.install("a1", "1001")
	r.install("a2", "1002")
	cmd := exec.CommandContext(t.Context(), "node", "proxy.mjs")
	cmd.Dir = "hubspot-client"
	cmd.Env = append(os.Environ(), "PROXY="+r.router.url+"/api/v1/proxy/crm", "KEY="+serverSecret, "END_USER_TOKEN="+r.token("a2", 0))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "done\n") {
		t.Fatalf("%v: run e2e/install.sh\n%s\n%s", err, out, tail(r.router.log.String(), 3000))
	}
	for hub, want := range map[string]string{"1001": "ada@one.example eve@one.example", "1002": "bob@two.example"} {
		var got []string
		for _, c := range r.hubspot.Hub(hub).Contacts() {
			got = append(got, c.Properties["email"])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("hub %s holds %q, want %s", hub, got, want)
		}
		for _, c := range r.hubspot.Hub(hub).Counts() {
			if c.Status == http.StatusTooManyRequests {
				t.Errorf("hub %s refused %d calls for want of quota", hub, c.Calls)
			}
		}
	}
	log := r.router.log.String()
	for _, planted := range []string{serverSecret, "csecret-planted", "one.example", "Upserted", r.token("a2", 0)[:40]} {
		if strings.Contains(log, planted) {
			t.Errorf("%.15s… is in the log", planted)
		}
	}
	if n := strings.Count(log, `"msg":"proxied call"`); n < 60 {
		t.Errorf("the log has %d lines of calls", n)
	}
}

// install connects an account to a hub without a browser.
func (r *connectRig) install(account, hub string) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.router.url+"/api/v1/connections", strings.NewReader(`{"app":"crm","account":"`+account+`"}`))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+serverSecret)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body) // what is missing is found out below
	res.Body.Close()
	started, err := client.Get(gjson.GetBytes(body, "url").Str)
	if err != nil {
		r.t.Fatalf("%s: %v", body, err)
	}
	started.Body.Close()
	back, err := r.hubspot.Consent(started.Header.Get("Location"), hub, true)
	if err != nil {
		r.t.Fatal(err)
	}
	if req, err = http.NewRequest(http.MethodGet, back, nil); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range started.Cookies() {
		req.AddCookie(c)
	}
	if res, err = client.Do(req); err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		r.t.Fatalf("connect %s to %s: %s", account, hub, res.Status)
	}
}
