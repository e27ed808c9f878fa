package endusers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// site is a web site in memory: what stands at a URL, or why nothing does.
type site struct {
	mu     sync.Mutex // guards the fields below
	answer func(req *http.Request) (*http.Response, error)
	calls  int
}

func (s *site) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.calls++
	answer := s.answer
	s.mu.Unlock()
	resp, err := answer(req)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// has puts keys at the URL.
func (s *site) has(keys ...map[string]any) {
	body, _ := json.Marshal(map[string]any{"keys": append([]map[string]any{}, keys...)})
	s.says(200, string(body))
}

func (s *site) says(status int, body string) {
	s.does(func(*http.Request) (*http.Response, error) { return response(status, body), nil })
}

func (s *site) does(answer func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func response(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// jwkOf writes the public part of a key as RFC 7517 has it.
func jwkOf(t testing.TB, s signer, id string) map[string]any {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		return map[string]any{"kty": "EC", "kid": id, "crv": k.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "kid": id, "crv": "Ed25519", "key_ops": []string{"verify"}, "x": b64(k)}
	}
	t.Fatalf("no key: %T", s.key)
	return nil
}

func changed(key map[string]any, name string, value any) map[string]any {
	out := map[string]any{}
	for k, v := range key {
		out[k] = v
	}
	out[name] = value
	return out
}

func kid(id string) func(map[string]any) { return func(h map[string]any) { h["kid"] = id } }

// withSite runs f in virtual time, with a verifier whose keys stand at a URL.
func withSite(t *testing.T, f func(t *testing.T, web *site, v *Verifier, logged func() string)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now))
		web := &site{}
		var log bytes.Buffer
		set := settings()
		set.JWKSURL = "https://app.example.com/keys.json?secret=hidden"
		v := newVerifier(t, set, Options{Transport: web, Now: time.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		f(t, web, v, func() string { synctest.Wait(); return log.String() })
		if strings.Contains(log.String(), "hidden") {
			t.Errorf("a secret of the URL is logged: %s", &log)
		}
		synctest.Wait()
	})
}

// TestRotation: a key that comes is found at once, by the first token that names it, and one that goes is no longer good when the keys were read again.
func TestRotation(t *testing.T) {
	all := signers(t)
	old, next := all["ES256"], all["EdDSA"]
	withSite(t, func(t *testing.T, web *site, v *Verifier, _ func() string) {
		web.has(jwkOf(t, old, "1"))
		long := old.sign(t, good(), kid("1"))
		verify(t, v, long, "a1", "")
		if n := web.count(); n != 1 {
			t.Fatalf("%d calls for the first tokens, want 1", n)
		}
		time.Sleep(again)
		web.has(jwkOf(t, old, "1"), jwkOf(t, next, "2"))
		token := next.sign(t, with("sub", "a2"), kid("2"))
		verify(t, v, token, "a2", "")
		if n := web.count(); n != 2 {
			t.Fatalf("%d calls when a key has come, want 2", n)
		}
		web.has(jwkOf(t, next, "2"))
		verify(t, v, long, "a1", "")
		time.Sleep(fresh)
		verify(t, v, long, "a1", "") // has them read beside it
		synctest.Wait()
		_, err := v.Verify([]byte(long))
		if err == nil || !strings.HasPrefix(err.Error(), "the token names a key (kid) that is not at the app's jwks_url") {
			t.Errorf("with a key that is gone: %v", err)
		}
		verify(t, v, token, "a2", "")

		// Nobody has asked for hours: the first who does waits for the keys as they are now.
		web.has(jwkOf(t, old, "1"))
		time.Sleep(stale)
		verify(t, v, token, "", "the token names a key (kid) that is not at the app's jwks_url")
	})
}

// TestInventedKeyIDs: tokens that name keys which nobody has make no more than a call in 30 seconds.
func TestInventedKeyIDs(t *testing.T) {
	s, stranger := signers(t)["ES256"], signers(t)["ES256"]
	withSite(t, func(t *testing.T, web *site, v *Verifier, _ func() string) {
		web.has(jwkOf(t, s, "1"))
		verify(t, v, s.sign(t, good(), kid("1")), "a1", "")
		for i := range 100 {
			verify(t, v, stranger.sign(t, good(), kid(strings.Repeat("x", i+1))), "", "the token names a key (kid) that is not at")
			time.Sleep(time.Second)
		}
		if n := web.count(); n < 3 || n > 5 {
			t.Errorf("%d calls in 100 seconds", n)
		}
	})
}

// TestURLDown: what was read stays good however long nothing can be read; before anything was read, nobody knows.
func TestURLDown(t *testing.T) {
	s := signers(t)["RS256"]
	withSite(t, func(t *testing.T, web *site, v *Verifier, logged func() string) {
		refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		hangs := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		token := func() string {
			c := good()
			c["iat"], c["exp"] = time.Now().Unix(), time.Now().Add(time.Hour).Unix()
			return s.sign(t, c, kid("1"))
		}
		unknown := func(atMost time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := v.Verify([]byte(token())); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
			if took := time.Since(began); took > atMost {
				t.Fatalf("took %v, want at most %v", took, atMost)
			}
		}
		web.does(hangs)
		unknown(fetchTimeout)
		unknown(fetchTimeout)
		time.Sleep(againEmpty)
		web.does(refused)
		calls := web.count()
		for range 10 {
			unknown(0)
		}
		if n := web.count() - calls; n != 1 {
			t.Errorf("%d calls at once, want 1", n)
		}
		time.Sleep(againEmpty)
		web.has(jwkOf(t, s, "1"))
		verify(t, v, token(), "a1", "")
		for _, trouble := range []func(*http.Request) (*http.Response, error){
			refused, hangs,
			func(*http.Request) (*http.Response, error) { return response(503, "{}"), nil },
			func(*http.Request) (*http.Response, error) { return response(200, "<html>"), nil },
			func(*http.Request) (*http.Response, error) { return response(200, `{}`), nil },
			func(*http.Request) (*http.Response, error) {
				return response(200, `{"keys":[`+strings.Repeat(" ", maxSetBytes)+`]}`), nil
			},
			func(*http.Request) (*http.Response, error) {
				resp := response(302, "")
				resp.Header.Set("Location", "https://evil.example/keys.json")
				return resp, nil
			},
		} {
			web.does(trouble)
			time.Sleep(2 * time.Hour)
			verify(t, v, token(), "a1", "")
			time.Sleep(2 * fetchTimeout)
			verify(t, v, token(), "a1", "")
		}
		if log := logged(); strings.Count(log, "can not be read") != 2 || !strings.Contains(log, "connection refused") {
			t.Errorf("want the trouble logged once each time that it begins:\n%s", log)
		}
	})
}

// TestRedirects: the keys may move on their own host, and nowhere else.
func TestRedirects(t *testing.T) {
	s := signers(t)["ES256"]
	f := func(location string, want bool) {
		t.Helper()
		withSite(t, func(t *testing.T, web *site, v *Verifier, _ func() string) {
			var hosts []string
			web.does(func(req *http.Request) (*http.Response, error) {
				hosts = append(hosts, req.URL.Host)
				if req.URL.Path == "/keys.json" {
					resp := response(302, "")
					resp.Header.Set("Location", location)
					return resp, nil
				}
				body, _ := json.Marshal(map[string]any{"keys": []any{jwkOf(t, s, "1")}})
				return response(200, string(body)), nil
			})
			_, err := v.Verify([]byte(s.sign(t, good(), kid("1"))))
			if (err == nil) != want {
				t.Errorf("%s: %v", location, err)
			}
			for _, host := range hosts {
				if host != "app.example.com" {
					t.Errorf("%s: %s was called", location, host)
				}
			}
		})
	}
	f("/new.json", true)
	f("https://app.example.com/new.json", true)
	f("https://evil.example/new.json", false)
	f("http://app.example.com/new.json", false)
	f("https://app.example.com:444/new.json", false)
	f("/keys.json", false) // in a circle
}

// TestKeysOfSets: of the keys at a URL those are used that are public, for signatures and good for an algorithm that is taken.
func TestKeysOfSets(t *testing.T) {
	all := signers(t)
	for alg, s := range all {
		raw, _ := json.Marshal(map[string]any{"keys": []any{jwkOf(t, s, "1")}})
		set, err := parseSet(raw)
		if err != nil || len(set.keys) != 1 || set.keys[0].alg != alg || set.keys[0].id != "1" {
			t.Errorf("%s: %v, %+v", alg, err, set)
		}
	}
	rs, ec, ed := jwkOf(t, all["RS256"], "1"), jwkOf(t, all["ES256"], "1"), jwkOf(t, all["EdDSA"], "1")
	small := jwkOf(t, signer{"RS256", rsaKey(t, "rsa1024.pem")}, "1")
	for why, k := range map[string]map[string]any{
		"is not for signatures":                            changed(rs, "use", "enc"),
		"is not for signatures ":                           changed(rs, "key_ops", []string{"encrypt"}),
		"has private parts":                                changed(rs, "d", "AQAB"),
		"has private parts ":                               {"kty": "oct", "kid": "1", "k": "c2VjcmV0"},
		"is for an algorithm that is not taken":            changed(rs, "alg", "PS256"),
		"is for an algorithm that is not taken ":           changed(rs, "alg", "HS256"),
		"is an RSA key of 1024 bits":                       small,
		"is damaged":                                       changed(rs, "n", "%"),
		"is damaged ":                                      changed(rs, "e", "AQABAQAB"),
		"is an RSA key with an exponent":                   changed(rs, "e", "AQ"),
		"is damaged  ":                                     changed(ec, "y", ec["x"]), // on no curve
		"is damaged   ":                                    changed(ec, "x", "AA"),
		"is on another curve than P-256":                   changed(ec, "crv", "secp256k1"),
		"is on another curve than Ed25519":                 changed(ed, "crv", "X25519"),
		"is damaged    ":                                   changed(ed, "x", "AA"),
		"is of another kind":                               changed(ed, "kty", "XYZ"),
		"is no key":                                        changed(ed, "kid", 7),
		"has an id (kid) of more than":                     changed(ed, "kid", strings.Repeat("x", maxKeyID+1)),
		"is for an algorithm that is not taken           ": changed(ec, "alg", "ES384"),
	} {
		raw, _ := json.Marshal(map[string]any{"keys": []any{k, jwkOf(t, all["ES384"], "good")}})
		set, err := parseSet(raw)
		if err != nil || len(set.keys) != 1 || set.keys[0].id != "good" || len(set.skipped) != 1 || !strings.HasPrefix(set.skipped[0], "key 1 "+strings.TrimSpace(why)) {
			t.Errorf("%s: %v, %+v", why, err, set)
		}
	}
	var many []any
	for range maxKeys + 1 {
		many = append(many, ed)
	}
	raw, _ := json.Marshal(map[string]any{"keys": many})
	if _, err := parseSet(raw); err == nil || !strings.HasPrefix(err.Error(), "there are 33 keys") {
		t.Errorf("%v", err)
	}
}

// TestWithoutKeyID: a token that names no key is tried on all of its algorithm.
func TestWithoutKeyID(t *testing.T) {
	a, b, c := signers(t)["ES256"], signers(t)["ES256"], signers(t)["ES256"]
	withSite(t, func(t *testing.T, web *site, v *Verifier, _ func() string) {
		web.has(jwkOf(t, a, "1"), jwkOf(t, b, "2"))
		verify(t, v, b.sign(t, good()), "a1", "")
		verify(t, v, c.sign(t, good()), "", "the signature of the token is of none")
	})
}

// TestKeysSurviveReload: a verifier that follows another one reads the same URL no more than that.
func TestKeysSurviveReload(t *testing.T) {
	s := signers(t)["ES256"]
	withSite(t, func(t *testing.T, web *site, v *Verifier, _ func() string) {
		web.has(jwkOf(t, s, "1"))
		token := s.sign(t, good(), kid("1"))
		verify(t, v, token, "a1", "")
		set := v.settings
		set.Audience = "router"
		next := newVerifier(t, set, Options{Transport: web, Now: time.Now, Before: v})
		verify(t, next, token, "", "the token has no aud")
		if n := web.count(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}
