package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parseElsewhere parses a file with bodies at its addresses, by the names that people see.
func parseElsewhere(file string, bodies map[string]string) (*Config, error) {
	return ParseWith("test.yaml", []byte(file), Options{Env: testEnv, Read: func(a Address, _ Server) ([]byte, error) {
		body, ok := bodies[a.String()]
		if !ok {
			return nil, errors.New("it answers 404 Not Found")
		}
		return []byte(body), nil
	}})
}

func TestPartsElsewhere(t *testing.T) {
	const (
		keys  = "https://keys.example.com/tokens"
		dests = "/etc/router/destinations.json"
		file  = "api_keys: https://user:hidden-1@keys.example.com/tokens?secret=hidden-2\ndestinations: file:///etc/router/destinations.json"
	)
	goodKeys := `{"tokens": [{"id": "web", "client_secret": "js.1"}]}`
	f := func(keysBody, destsBody string, want ...string) {
		t.Helper()
		cfg, err := parseElsewhere(file, map[string]string{keys: keysBody, dests: destsBody})
		got := []string{}
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%s\n%s\n(-want +got):\n%s", keysBody, destsBody, diff)
		}
		if cfg == nil || len(cfg.Elsewhere) != 2 || cfg.Elsewhere[0].Part != PartAPIKeys || cfg.Elsewhere[1].Part != PartDestinations {
			t.Errorf("addresses: %+v", cfg)
		}
	}
	f(goodKeys, `{"destinations":{"crm":{"type":"hubspot","only_tokens":["js.1"],"hubspot":{"hub_id":1}}}}`)
	f("tokens:\n- id: web\n  client_secret: js.1", "destinations:\n  crm:\n    type: hubspot\n") // YAML
	f("\uFEFF{\n\t\"tokens\": [\n\t\t{\"id\": \"\\ud83d\\ude00 \\/ \\\\ud83d\",\n\t\t\"client_secret\": \"js.1\"}]}", `{"destinations":{"crm":{}}}`)

	f(`{"tokens": []}`, `{"destinations":{}}`,
		keys+`:1: tokens: must be a list of API keys, at least one: {"tokens": [{"id": "web", "client_secret": "…"}]}`,
		dests+`:1: destinations: must be a map from names to destinations, at least one; "staged": true keeps one from getting events`)
	f("{\n\"tokens\": [\n{\"client_secrets\": \"hidden-3\"},\n\"hidden-4\", {}]}", "{\n\"destinations\": {\n\"crm\": {\n\"typ\": \"hubspot\"}, \"a.b\": 1}}",
		keys+`:3: tokens[0]: unknown key "client_secrets" (did you mean "client_secret"?)`,
		keys+`:4: tokens[2]: needs a client_secret, a server_secret or both`,
		dests+`:4: destinations.crm: unknown key "typ" (did you mean "type"?)`,
		dests+`:4: destinations.a.b: a name cannot hold a dot; write a_b`,
		dests+":4: destinations.a.b: must hold keys with values, at least `type`")
	f(`{"keys": [{"client_secret": "hidden-3"}]}`, `{"crm": {"type": "hubspot"}}`,
		keys+`:1: unknown key (known is tokens)`, keys+`:1: lacks tokens: it must be JSON of the form {"tokens": …}`,
		dests+`:1: unknown key (known is destinations)`, dests+`:1: lacks destinations: it must be JSON of the form {"destinations": …}`)
	f("<!DOCTYPE html>\n<p>hidden-3", "",
		keys+`:1: is HTML or XML, such as a page to log in; it must be JSON of the form {"tokens": …}`, dests+`:1: must be JSON of the form {"destinations": …}`)
	f("\x1f\x8b hidden-3", `{"destinations":{"crm":{"type":"hubspot","hubspot":{"access_token":"${env.HUBSPOT_TOKEN}"}}}}`,
		keys+`:1: must be text in UTF-8; it must be JSON of the form {"tokens": …}`,
		dests+`:1: destinations.crm.hubspot.access_token: ${env.…} is not replaced in what comes from elsewhere; write the value`)
	f(goodKeys, `{"destinations":{"crm":{"only_tokens":["hidden-3"]}}}`,
		dests+`:1: destinations.crm.only_tokens[0]: is neither the id nor a secret of any element of api_keys`)
	f(`{"tokens": [{"id": "web", "client_secret": "js.1"}, {"id": "web", "client_secret": "js.1"}]}`, `{"destinations":{"crm":{}}}`,
		keys+`:1: tokens[1].client_secret: is the same as tokens[0].client_secret; no two API keys may share a secret`)
	f(`{"tokens": [`+strings.Repeat(`{"client_secret": "hidden"},`, maxElsewhereBytes/20)+`]}`, `{"destinations":{"crm":{}}}`,
		keys+`: is larger than 4194304 bytes; it must be JSON of the form {"tokens": …}`)
}

func TestAddresses(t *testing.T) {
	f := func(file string, want string) {
		t.Helper()
		_, err := parseElsewhere(file, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", file, err, want)
		}
	}
	f("api_keys: https://keys.example.com/a%2Fb?x=hidden#y", "test.yaml:1: api_keys: cannot be read from https://keys.example.com/a%2Fb: it answers 404 Not Found")
	f("api_keys: file://keys.json", "test.yaml:1: api_keys: cannot be read from keys.json: it answers 404 Not Found")
	f("api_keys: /keys.json", "test.yaml:1: api_keys: cannot be read from /keys.json: it answers 404 Not Found")
	f("api_keys: 'https://user:hid@den%@host/'", "test.yaml:1: api_keys: is not a valid URL: write https://host/path, with reserved characters of a password escaped (%40 is @)")
	f("api_keys: 'https:///x'", "test.yaml:1: api_keys: is not a valid URL: write https://host/path, with reserved characters of a password escaped (%40 is @)")
	f("api_keys: 'file://'", "test.yaml:1: api_keys: lacks the name of a file after file://")
	f("api_keys: a\ndestinations: keys.json", "test.yaml:2: destinations: must be a map, a URL, the name of a file that begins with / or file://, or JSON text")
	f("api_keys: a\ndestinations: '{\"crm\": {}}'", `test.yaml:2: destinations: is not JSON of the form {"destinations": {"crm": {"type": "hubspot"}}}`)
	f("configurator: {base_url: 'https://x/?token=hidden'}\napi_keys: a\ndestinations: {crm: {}}", "test.yaml:1: configurator.base_url: must be a URL such as https://configurator.example.com, without a query")
	f("configurator:\n  base_url: https://x/y/", "test.yaml:2: configurator.base_url: cannot be read from https://x/y/api/v1/apikeys: it answers 404 Not Found\n"+
		"test.yaml:2: configurator.base_url: cannot be read from https://x/y/api/v1/destinations: it answers 404 Not Found")

	const body = `{"tokens":[{"client_secret":"js.1"}]}`
	warns := func(address string, want int) {
		t.Helper()
		cfg, err := parseElsewhere("api_keys: "+address+"\ndestinations: {crm: {}}", map[string]string{
			"http://keys.example.com": body, "http://localhost:1/": body, "http://127.0.0.1/x": body, "http://[::1]/x": body, "https://keys.example.com": body,
		})
		if err != nil || len(cfg.Warnings) != want {
			t.Errorf("%s: %v, %v, want %d warnings", address, err, cfg.Warnings, want)
		}
	}
	warns("http://keys.example.com", 1)
	warns("https://keys.example.com", 0)
	warns("http://localhost:1/", 0)
	warns("http://127.0.0.1/x", 0)
	warns("http://[::1]/x", 0)
}

func TestInlineDestinations(t *testing.T) {
	cfg, err := parseElsewhere(`{api_keys: a, destinations: '{"destinations": {"crm": {"type": "hubspot", "hubspot": {"hub_id": 7}}}}'}`, nil)
	if err != nil || len(cfg.Destinations) != 1 || cfg.Destinations[0].Name != "crm" || cfg.Destinations[0].Settings.Path() != "destinations.crm.hubspot" {
		t.Errorf("%+v, %v", cfg, err)
	}
	_, err = ParseWith("test.yaml", []byte("api_keys: a\n\ndestinations: ${env.D}"), Options{Env: func(string) (string, bool) {
		return `{"destinations": {"crm": {"staged": "hidden-1", "lanes": {"max_bytes": "hidden-2"}}}}`, true
	}})
	want := "test.yaml:3: destinations.crm.staged: \"…\" is neither true nor false\ntest.yaml:3: destinations.crm.lanes.max_bytes: \"…\" is not a number of bytes: write 1048576, 512KB, 64MiB or 1GiB"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %v", err, want)
	}
}

// A part that is left out leaves nothing wrong behind.
func TestLeftOutParts(t *testing.T) {
	cfg, err := ParseWith("test.yaml", []byte("api_keys: https://keys\ndestinations: {crm: {only_tokens: [web]}}"), Options{
		Read: func(Address, Server) ([]byte, error) { return nil, ErrLeftOut },
	})
	if err != nil || len(cfg.Warnings) != 0 || len(cfg.APIKeys) != 0 || len(cfg.Destinations) != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestAddressSecrets(t *testing.T) {
	cfg, _ := parseElsewhere("api_keys: https://user:pass%20word-1@keys.example.com/x?token=query-secret&n=1\nconfigurator: {base_url: https://c, admin_token: admin-secret}", nil)
	all := strings.Join(cfg.Secrets(), "\n")
	for _, secret := range []string{"pass word-1", "user:pass%20word-1", "query-secret", "admin-secret"} {
		if !strings.Contains(all, secret) {
			t.Errorf("%s is no secret", secret)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", cfg.Elsewhere, cfg.Elsewhere, cfg.Elsewhere); strings.Contains(text, "word-1") || strings.Contains(text, "query-secret") {
		t.Errorf("printed: %s", text)
	}
}

// address makes one as a file has it.
func address(t *testing.T, text string) Address {
	t.Helper()
	a, err := newAddress(PartAPIKeys, text, "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFetch(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	serve := func(w http.ResponseWriter, r *http.Request) {}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "other auth=%q token=%q referer=%q", r.Header.Get("Authorization"), r.Header.Get("X-Admin-Token"), r.Referer())
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		user, password, _ := r.BasicAuth()
		calls = append(calls, strings.Replace(fmt.Sprintf("%s %s%s etag=%s since=%t", r.URL, user, password, r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since") != ""), "  ", " ", 1))
		serve(w, r)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	e := NewElsewhere(nil)
	f := func(a Address, answer http.HandlerFunc, want, wantErr string, wantCalls ...string) {
		t.Helper()
		mu.Lock()
		calls, serve = nil, answer
		mu.Unlock()
		body, err := e.Read(context.Background(), a)
		if string(body) != want || fmt.Sprint(err) != wantErr {
			t.Errorf("got %q, %v, want %q, %s", body, err, want, wantErr)
		}
		if diff := cmp.Diff(wantCalls, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	}
	say := func(status int, text string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			if status != http.StatusNotModified {
				w.Write([]byte(text))
			}
		}
	}
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	now := time.Now().Add(-time.Second).UTC().Format(http.TimeFormat)
	a := address(t, "http://me:pw@"+host+"/k?q=1#f")

	f(a, say(304, ""), "", "it answers 304 Not Modified", "/k?q=1 mepw etag= since=false") // there is nothing that it could mean
	f(a, say(200, "one", "Last-Modified", now), "one", "<nil>", "/k?q=1 mepw etag= since=false")
	f(a, say(200, "two", "Last-Modified", old), "two", "<nil>", "/k?q=1 mepw etag= since=false") // within the second of the first
	f(a, say(304, ""), "two", "<nil>", "/k?q=1 mepw etag= since=true")
	f(a, say(503, "three"), "", "it answers 503 Service Unavailable", "/k?q=1 mepw etag= since=true")
	f(a, say(304, ""), "two", "<nil>", "/k?q=1 mepw etag= since=true")
	f(a, say(200, "four", "ETag", `"4"`), "four", "<nil>", "/k?q=1 mepw etag= since=true")
	f(a, say(304, ""), "four", "<nil>", `/k?q=1 mepw etag="4" since=false`)
	f(a, say(204, ""), "", "it answers 204 No Content", `/k?q=1 mepw etag="4" since=false`)
	f(a, say(200, strings.Repeat("x", maxElsewhereBytes+1)), "", "it is larger than 4194304 bytes", `/k?q=1 mepw etag="4" since=false`)
	f(a, say(304, ""), "four", "<nil>", `/k?q=1 mepw etag="4" since=false`)
	if body, err := e.Read(context.Background(), address(t, "http://you:pw@"+host+"/k?q=1")); err != nil && body != nil { // another address
		t.Errorf("%q, %v", body, err)
	}

	plain := address(t, srv.URL+"/r?query-secret")
	f(plain, say(302, "", "Location", other.URL+"/x"), `other auth="" token="" referer=""`, "<nil>", "/r?query-secret etag= since=false")
	withPassword := address(t, "http://me:pw@"+host+"/r?query-secret")
	f(withPassword, say(302, "", "Location", other.URL+"/x"), `other auth="" token="" referer=""`, "<nil>", "/r?query-secret mepw etag= since=false")
	loop := address(t, srv.URL+"/loop?query-secret")
	calls = nil
	serve = say(302, "", "Location", "/loop?query-secret")
	if _, err := e.Read(context.Background(), loop); err == nil || err.Error() != "it redirects more than 5 times" || len(calls) != maxRedirects+1 {
		t.Errorf("a loop: %v after %d calls", err, len(calls))
	}
	f(address(t, srv.URL+"/bad"), say(302, "", "Location", "http://[::query-secret"), "", "it redirects to what is no URL", "/bad etag= since=false")

	configurator, _ := newAddress(PartAPIKeys, srv.URL+"/api/v1/apikeys", "adm")
	byQuery := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") != "adm" {
			w.WriteHeader(401)
			return
		}
		w.Write([]byte("keys"))
	}
	f(configurator, byQuery, "keys", "<nil>", "/api/v1/apikeys etag= since=false", "/api/v1/apikeys?token=adm etag= since=false")
	f(configurator, byQuery, "keys", "<nil>", "/api/v1/apikeys?token=adm etag= since=false")

	srv.Close()
	if _, err := e.Read(context.Background(), a); err == nil || err.Error() != "connect: connection refused" {
		t.Errorf("no server: %v", err)
	}
	if _, err := e.Read(context.Background(), address(t, "https://user:pw@host.invalid/")); err == nil || err.Error() != "its host host.invalid cannot be found" {
		t.Errorf("no host: %v", err)
	}
}

func TestFetchTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, "http://"+r.Host+"/x?query-secret", http.StatusFound)
		}
	}))
	defer srv.Close()
	if _, err := NewElsewhere(nil).Read(context.Background(), address(t, srv.URL+"/?query-secret")); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "secret") {
		t.Errorf("an unknown certificate: %v", err)
	}
	e := NewElsewhere(srv.Client().Transport)
	if body, err := e.Read(context.Background(), address(t, srv.URL)); err != nil || len(body) != 0 {
		t.Errorf("a known certificate: %v", err)
	}
	if _, err := e.Read(context.Background(), address(t, srv.URL+"/down")); err == nil || err.Error() != "it redirects from https to http" {
		t.Errorf("to plain http: %v", err)
	}
}

// An address that does not answer is given up after ten seconds, also while another reading of it waits.
func TestFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewElsewhere(silent{})
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := e.Read(t.Context(), address(t, "https://keys.example.com/?query-secret")); !errors.Is(err, errTooSlow) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != fetchTimeout {
			t.Errorf("took %v", took)
		}
	})
}

type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	e := NewElsewhere(nil)
	f := func(text, want string) {
		t.Helper()
		body, err := e.Read(context.Background(), address(t, text))
		if got := fmt.Sprintf("%s %v", body, err); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	f(path, fmt.Sprintf(" stat %s: no such file or directory", path))
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(path, "{} <nil>")
	f("file://"+path, "{} <nil>")
	f(dir, " it is not a regular file")
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	a, other := address(t, "https://user:pw@keys.example.com"), address(t, "https://user:pw2@keys.example.com")
	v := Version{Body: []byte("{\"tokens\":[\xff]}"), At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	is := func(a Address, want error) {
		t.Helper()
		got, err := Kept(Server{DataDir: dir}, a)
		if !errors.Is(err, want) || want == nil && (!bytes.Equal(got.Body, v.Body) || !got.At.Equal(v.At)) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	is(a, ErrNotKept)
	if err := Keep(Server{DataDir: dir}, a, Version{Body: []byte("older")}); err != nil {
		t.Fatal(err)
	}
	if err := Keep(Server{DataDir: dir}, a, v); err != nil {
		t.Fatal(err)
	}
	is(a, nil)
	is(other, ErrNotKept)
	is(Address{Part: PartDestinations, raw: a.raw}, ErrNotKept)
	files, _ := filepath.Glob(filepath.Join(dir, "elsewhere", "*"))
	info, err := os.Stat(filepath.Join(dir, "elsewhere", "api_keys.json"))
	if err != nil || info.Mode() != 0o600 || len(files) != 1 {
		t.Errorf("%v, %v, files %v", info.Mode(), err, files)
	}
	path := filepath.Join(dir, "elsewhere", "api_keys.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range data { // a disk that kept half of it
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Kept(Server{DataDir: dir}, a); err == nil || strings.Contains(err.Error(), "pw") {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// FuzzElsewhere: no answer of an address makes the router panic, hang, or fail with anything but problems; none tells a secret in it.
func FuzzElsewhere(f *testing.F) {
	for _, text := range []string{
		`{"tokens":[{"id":"a","client_secret":"b","server_secret":"c","origins":["*.d.com"]},"e"]}`, `{"destinations":{"crm":{"type":"hubspot","hubspot":{"hub_id":1}}}}`,
		"tokens: &a [*a]", "{\"tokens\":[\"\\ud83d\\ude00\\ud83d\"]}", "destinations: {<<: {a: {}}}", "\uFEFF{}", "[", "${env.WORD}", `{"tokens":"${env.WORD}","destinations":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := ParseWith("fuzz.yaml", []byte("api_keys: https://a\ndestinations: https://b"), Options{
			Env: testEnv, Read: func(Address, Server) ([]byte, error) { return data, nil },
		})
		var ps Problems
		if err != nil && !errors.As(err, &ps) {
			t.Fatalf("%T %v", err, err)
		}
		for _, p := range ps {
			if p.Pos.File != "https://a" && p.Pos.File != "https://b" || p.Text == "" || p.Pos.Line > len(data)+1 {
				t.Fatalf("%q: problem %+v", data, p)
			}
		}
		for _, part := range []string{`{"tokens":`, `{"destinations":`} { // both at once are never valid
			_, _ = ParseWith("fuzz.yaml", []byte("api_keys: https://a\ndestinations: https://b"), Options{
				Env: testEnv, Read: func(a Address, _ Server) ([]byte, error) {
					if strings.Contains(part, "tokens") == (a.Part == PartAPIKeys) {
						return []byte(part + string(data) + "}"), nil
					}
					return nil, ErrLeftOut
				},
			})
		}
		if err == nil {
			checkAccepted(t, cfg)
		}
		if json.Valid(data) {
			if plain := plainEscapes(data); !json.Valid(plain) || bytes.Count(plain, []byte("\n")) != bytes.Count(data, []byte("\n")) {
				t.Fatalf("%q became %q", data, plain)
			}
		}
	})
}
