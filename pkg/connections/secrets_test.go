package connections

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestSecretsStayHidden has accounts connect, refresh, fail, be refused and disconnect, notes every secret on the way, and searches for them in all that comes out: answers, the log,
// metrics, errors, notices, and every file of the data directory.
func TestSecretsStayHidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(_ *rig, o *sandbox.Options) { o.RotateRefreshTokens = true })
		var mu sync.Mutex
		secrets := map[string]string{"client secret": secretText}
		note := func(what, text string) {
			mu.Lock()
			defer mu.Unlock()
			if len(text) >= 8 {
				secrets[what+" "+text[len(text)-4:]] = text
			}
		}
		var out bytes.Buffer // all that people and programs get
		see := func(a answer, mayHave ...string) {
			text := a.body
			for name, values := range a.header {
				if name != "Set-Cookie" { // that is for the browser alone
					text += name + ": " + strings.Join(values, " ")
				}
			}
			for _, s := range mayHave {
				text = strings.ReplaceAll(text, s, "")
			}
			out.WriteString(text + "\n")
		}
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if err := req.ParseForm(); err == nil {
				for _, name := range []string{"code", "code_verifier", "refresh_token", "token"} {
					note(name, req.PostForm.Get(name))
				}
				form := req.PostForm.Encode()
				req.Body = http.NoBody
				req2 := req.Clone(req.Context())
				req2.Body = readCloser{strings.NewReader(form)}
				*req = *req2
			}
			res, err := next()
			if err != nil {
				return res, err
			}
			var buf bytes.Buffer
			buf.ReadFrom(res.Body)
			for _, name := range []string{"access_token", "refresh_token"} {
				if _, rest, ok := strings.Cut(buf.String(), `"`+name+`":"`); ok {
					token, _, _ := strings.Cut(rest, `"`)
					note(name, token)
				}
			}
			res.Body = readCloser{&buf}
			return res, nil
		})
		walk := func(account, hub string, grant bool, change func(string) string) {
			b := r.browser()
			link := r.link(account, "")
			back := change(b.consent(link, hub, grant))
			u, _ := url.Parse(back)
			note("code", u.Query().Get("code"))
			note("state", u.Query().Get("state"))
			_, text, _ := strings.Cut(link, "link=")
			note("link", text)
			for _, c := range b.cookies {
				note("cookie", c)
			}
			see(b.get(back))
			see(b.get(back))
		}
		same := func(s string) string { return s }
		walk("a1", hubA, true, same)
		walk("a2", hubB, true, same)
		walk("a2", hubB, false, same)
		walk("a3", hubB, true, func(s string) string { return with(s, "code", func(string) string { return "planted-wrong-code" }) })
		for range 3 {
			time.Sleep(time.Hour)
			for _, account := range []string{"a1", "a2"} {
				token, err := r.s.Token(t.Context(), "crm", account, "")
				if err != nil {
					t.Fatal(err)
				}
				r.s.Refused("crm", account, token)
			}
		}
		r.hub.RevokeRefresh("", hubB)
		_, err := r.s.Token(t.Context(), "crm", "a2", hubB)
		out.WriteString(err.Error())
		see(r.api(http.MethodGet, "", ""))
		r.restart()
		r.app.ClientSecret = "planted-other-secret"
		note("client secret", "planted-other-secret")
		time.Sleep(time.Hour)
		r.restart()
		_, err = r.s.Token(t.Context(), "crm", "a1", hubA)
		out.WriteString(err.Error())
		walk("a4", hubB, true, same)
		r.app.ClientSecret = secretText
		r.app.APIVersion = "v1" // where tokens stand in addresses
		r.restart()
		r.app.BaseURL = "https://unreachable.example"
		walk("a5", hubB, true, same)
		r.intercept(func(req *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
			return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: errors.New("unreachable")}
		})
		see(r.api(http.MethodDelete, "?app=crm&account=a5", ""))
		see(r.api(http.MethodGet, "", ""))
		families, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
				t.Fatal(err)
			}
		}
		for i := range r.events {
			out.Write(r.events[i].JSON)
		}
		r.stop()

		if len(secrets) < 15 {
			t.Fatalf("only %d secrets were seen: %v", len(secrets), secrets)
		}
		places := r.files()
		places["answers, errors, metrics"] = out.Bytes()
		places["log"] = []byte(r.logged())
		for what, secret := range secrets {
			forms := []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))}
			for place, data := range places {
				for _, form := range forms {
					if bytes.Contains(data, []byte(form)) {
						t.Errorf("%s is in %s", what, place)
					}
				}
			}
		}
	})
}

type readCloser struct {
	r interface{ Read([]byte) (int, error) }
}

func (c readCloser) Read(p []byte) (int, error) { return c.r.Read(p) }
func (readCloser) Close() error                 { return nil }

// sealed is what is sealed of an account, as it stands in the file.
func (r *rig) sealed(account string) (raw []byte) {
	r.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(r.dir, "router.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT sealed FROM connections WHERE account = ?`, account).Scan(&raw); err != nil || len(raw) < 100 {
		r.t.Fatalf("got %d bytes, %v", len(raw), err)
	}
	return raw
}

// TestErasedFromFiles searches the files for what was sealed of an account that was disconnected.
func TestErasedFromFiles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		var sealed [][]byte
		for i := range 40 { // enough for rows to move between pages
			r.mustConnect("a"+string(rune('A'+i)), hubA)
		}
		r.mustConnect("gone-account", hubB)
		for range 3 {
			sealed = append(sealed, r.sealed("gone-account"))
			time.Sleep(time.Hour)
			if _, err := r.s.Token(t.Context(), "crm", "gone-account", hubB); err != nil {
				t.Fatal(err)
			}
		}
		found := func() (n int) {
			for _, data := range r.files() {
				for _, raw := range sealed {
					for at := 40; at+24 <= len(raw); at += 24 { // behind the head that all have
						if bytes.Contains(data, raw[at:at+24]) {
							n++
						}
					}
				}
			}
			return n
		}
		if found() == 0 {
			t.Fatal("what is searched for is not in the files before")
		}
		if d, err := r.s.Disconnect(t.Context(), "crm", "gone-account"); err != nil || !d.Erased {
			t.Fatalf("got %+v, %v", d, err)
		}
		if n := found(); n > 0 {
			t.Errorf("%d pieces of the sealed tokens are in the files still", n)
		}
	})
}
