package endusers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// signer is a private key with the algorithm that belongs to it.
type signer struct {
	alg string
	key crypto.Signer
}

// signers are one of each kind. RSA keys come from testdata: to make one takes a second.
func signers(t testing.TB) map[string]signer {
	t.Helper()
	all := map[string]signer{"RS256": {"RS256", rsaKey(t, "rsa2048.pem")}}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all[alg] = signer{alg, k}
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all["EdDSA"] = signer{"EdDSA", k}
	return all
}

func rsaKey(t testing.TB, name string) *rsa.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*rsa.PrivateKey)
}

func publicPEM(t testing.TB, k crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign makes a token of claims; change may change its header.
func (s signer) sign(t testing.TB, c jwt.MapClaims, change ...func(header map[string]any)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(s.alg), c)
	for _, f := range change {
		f(token.Header)
	}
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// good are claims of a token that is taken.
func good() jwt.MapClaims {
	return jwt.MapClaims{"sub": "a1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
}

// with is good with a member changed, or without it for nil.
func with(name string, value any) jwt.MapClaims {
	c := good()
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

func settings(pems ...string) config.EndUserTokens {
	t := config.DefaultApp("crm").Tokens
	for _, text := range pems {
		t.Keys = append(t.Keys, config.KeyText{Text: text, Path: "apps.crm.tokens.keys[0]", Pos: config.Pos{File: "router.yaml", Line: 7}})
	}
	return t
}

func newVerifier(t testing.TB, s config.EndUserTokens, o Options) *Verifier {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	v, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// verify checks what a verifier says of a token: the account, or the beginning of why not. A refusal must not quote the token, and it says the same when asked again.
func verify(t *testing.T, v *Verifier, token, account, why string) {
	t.Helper()
	for range 2 { // the second time a token that is good is known
		got, err := v.Verify([]byte(token))
		switch {
		case why == "" && (err != nil || got != account):
			t.Fatalf("%s: got %q, %v, want %q", token, got, err, account)
		case why != "" && (err == nil || got != "" || !strings.HasPrefix(err.Error(), why)):
			t.Fatalf("%s: got %q, %v, want the refusal %q", token, got, err, why)
		}
		for part := range strings.SplitSeq(token, ".") {
			if err != nil && len(part) > 20 && strings.Contains(err.Error(), part[:20]) {
				t.Fatalf("the refusal quotes the token: %v", err)
			}
		}
	}
}

// TestAlgorithms: each kind of key verifies what it has signed, and nothing else: not what another key of the kind has signed, nor what is signed with another algorithm.
func TestAlgorithms(t *testing.T) {
	all, others := signers(t), signers(t)
	others["RS256"] = signer{"RS256", rsaKey(t, "rsa2048-2.pem")}
	for alg, s := range all {
		v := newVerifier(t, settings(publicPEM(t, s.key)), Options{})
		verify(t, v, s.sign(t, good()), "a1", "")
		verify(t, v, others[alg].sign(t, good()), "", "the signature of the token is of none of the app's keys")
		for other, o := range all {
			if other != alg {
				verify(t, v, o.sign(t, good()), "", "the token is signed with "+other+", and the app has no key for that")
			}
		}
	}
	var pems string
	for _, s := range all {
		pems += publicPEM(t, s.key)
	}
	v := newVerifier(t, settings(pems), Options{})
	for _, s := range all {
		verify(t, v, s.sign(t, good(), func(h map[string]any) { h["kid"] = "any" }), "a1", "")
	}
}

// TestConfusion: a token can not choose how it is verified.
func TestConfusion(t *testing.T) {
	all := signers(t)
	rs := all["RS256"]
	v := newVerifier(t, settings(publicPEM(t, rs.key)), Options{})

	// The public key, which everybody knows, as the secret of an HMAC, in all of its spellings.
	der, _ := x509.MarshalPKIXPublicKey(rs.key.Public())
	for _, secret := range [][]byte{[]byte(publicPEM(t, rs.key)), []byte(strings.TrimSpace(publicPEM(t, rs.key))), der} {
		for _, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			token, err := jwt.NewWithClaims(m, good()).SignedString(secret)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, v, token, "", "the token is signed with a shared secret")
		}
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, good()).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, v, unsigned, "", "the token is not signed")

	header := func(json string) string {
		_, rest, _ := strings.Cut(rs.sign(t, good()), ".")
		return base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + rest
	}
	verify(t, v, header(`{"alg":"None"}`), "", "the token is not signed")
	verify(t, v, header(`{"alg":"nOnE"}`), "", "the token is not signed")
	verify(t, v, header(`{}`), "", "the token names no algorithm")
	verify(t, v, header(`{"alg":["RS256"]}`), "", "the token names no algorithm")
	verify(t, v, header(`{"alg":"RS512"}`), "", "the token is signed with another algorithm")
	verify(t, v, header(`{"alg":"PS256"}`), "", "the token is signed with another algorithm")
	verify(t, v, header(`{"alg":"ES256"}`), "", "the token is signed with ES256, and the app has no key for that")
	verify(t, v, header(`{"alg":"RS256","crit":["b64"],"b64":false}`), "", "the token demands something")
	verify(t, v, header(`{"alg":"RS256","kid":7}`), "", "kid must be a text")
	verify(t, v, header(`{"alg":"RS256","x":1}`), "", "the signature of the token is of none")
	// A key in the header is the sender's.
	mine := signer{"RS256", rsaKey(t, "rsa2048-2.pem")}
	verify(t, v, mine.sign(t, good(), func(h map[string]any) {
		h["jwk"], h["jku"], h["x5u"] = map[string]any{"kty": "RSA"}, "https://evil.example/keys", "https://evil.example/cert"
	}), "", "the signature of the token is of none")
	// ES256 is of 64 bytes, and one of zeros once was good for any text.
	ec := all["ES256"]
	v = newVerifier(t, settings(publicPEM(t, ec.key)), Options{})
	body := ec.sign(t, good())
	body = body[:strings.LastIndexByte(body, '.')+1]
	verify(t, v, body+base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "", "the signature of the token is of none")
	verify(t, v, body, "", "the signature of the token is of none")
	// A key is good for its own algorithm only, also where it has really signed by another one.
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES384"}`)) + "." + strings.Split(body, ".")[1]
	sum := sha512.Sum384([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, ec.key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	verify(t, v, text+"."+base64.RawURLEncoding.EncodeToString(signature), "", "the token is signed with ES384, and the app has no key for that")
}

// TestClaims: each claim that is wrong has a text of its own.
func TestClaims(t *testing.T) {
	s := signers(t)["EdDSA"]
	strict := settings(publicPEM(t, s.key))
	strict.Audience, strict.Issuer = "router", "https://app.example.com"
	strictly := newVerifier(t, strict, Options{})
	v := newVerifier(t, settings(publicPEM(t, s.key)), Options{})
	f := func(c jwt.MapClaims, why string) {
		t.Helper()
		account, _ := c["sub"].(string)
		verify(t, v, s.sign(t, c), account, why)
	}
	f(good(), "")
	f(with("sub", nil), "the token has no sub")
	f(with("sub", ""), "the token has no sub")
	f(with("sub", 7), "the token's sub is a number")
	f(with("sub", strings.Repeat("a", event.MaxAccount)), "")
	f(with("sub", strings.Repeat("a", event.MaxAccount+1)), "the token's sub names no account: account is longer than 256 bytes")
	f(with("sub", "a\n1"), "the token's sub names no account: account holds a character that does not print")
	f(with("sub", "a\u202e1"), "the token's sub names no account: account holds a character that does not print")
	f(with("sub", "a\ufffd1"), "the token's sub names no account: account holds a character that does not print")
	f(with("sub", " a1"), "the token's sub names no account: account has a space at an end")
	f(with("sub", "Ünïcode/é 1"), "")
	f(with("iat", nil), "the token has no iat")
	f(with("exp", nil), "the token has no exp")
	f(with("iat", "today"), "the token's iat is a string")
	f(with("exp", now.Unix()), "the token's exp is not after its iat")
	f(with("exp", now.Add(24*time.Hour).Unix()), "")
	f(with("exp", now.Add(24*time.Hour).Unix()+1), "the token is good for longer than max_age allows (24h0m0s from iat to exp)")
	f(with("exp", 1e300), "the token")
	f(jwt.MapClaims{"sub": "a1", "iat": -1e300, "exp": now.Unix() + 1}, "the token is good for longer")
	f(with("iat", now.Add(time.Minute).Unix()), "")
	f(with("iat", now.Add(time.Minute).Unix()+1), "the token's iat is in the future")
	f(jwt.MapClaims{"sub": "a1", "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(-time.Minute).Unix() + 1}, "")
	f(jwt.MapClaims{"sub": "a1", "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(-time.Minute).Unix()}, "the token has expired")
	f(with("nbf", now.Add(2*time.Minute).Unix()), "the token is not good yet")
	f(with("nbf", now.Unix()), "")
	f(with("aud", "anything"), "") // nobody asks for it

	// What only looks like a claim is another one.
	f(with("SUB", "a2"), "")
	f(with("\u017fub", "a2"), "")
	f(with("Exp", 1), "")
	f(with("iat", "1795348800"), "the token's iat is a string")
	raw := func(payload, why string) {
		t.Helper()
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		signature, err := jwt.SigningMethodEdDSA.Sign(text, s.key)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, v, text+"."+base64.RawURLEncoding.EncodeToString(signature), "a1", why)
	}
	raw(`{"sub":"a1","iat":1795348800,"exp":1795352400}`, "")
	raw(`{"sub":"a1","SUB":"a2","iat":1795348800,"exp":1795352400}`, "")
	raw(`{"sub":"a1","sub":"a2","iat":1795348800,"exp":1795352400}`, "the token says sub twice")
	raw(`{"sub":"a1","iat":1795348800,"exp":1795352400}{}`, "the token can not be read")
	raw(`{"sub":"\ud800","iat":1795348800,"exp":1795352400}`, "the token's sub names no account")

	f = func(c jwt.MapClaims, why string) {
		t.Helper()
		verify(t, strictly, s.sign(t, c), "a1", why)
	}
	c := with("iss", "https://app.example.com")
	f(c, "the token has no aud")
	c["aud"] = "other"
	f(c, "the token's aud is not that of the app")
	c["aud"] = []string{"other", "router"}
	f(c, "")
	c["aud"] = 7
	f(c, "the token can not be read")
	c["aud"] = "router"
	c["iss"] = "https://app.example.com/"
	f(c, "the token's iss is not that of the app")
	delete(c, "iss")
	f(c, "the token has no iss")
}

// TestBytes: what is no token at all.
func TestBytes(t *testing.T) {
	s := signers(t)["EdDSA"]
	v := newVerifier(t, settings(publicPEM(t, s.key)), Options{})
	token := s.sign(t, good())
	parts := strings.Split(token, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	for text, why := range map[string]string{
		"":                                "there is no token",
		"a":                               "the token is no JWT",
		"a.b":                             "the token is no JWT",
		token + ".x":                      "the token is no JWT",
		parts[0] + "." + parts[1] + ".":   "the signature of the token",
		parts[0] + "." + parts[1] + ".!!": "the token can not be read",
		parts[0] + "." + b64([]byte("7")) + "." + parts[2]:            "the token can not be read",
		parts[0] + "." + b64([]byte(`{"sub":"a2"}`)) + "." + parts[2]: "the signature of the token",
		b64([]byte("null")) + "." + parts[1] + "." + parts[2]:         "the token is no JWT",
		token + strings.Repeat("A", MaxTokenBytes):                    "the token is longer than 8192 bytes",
	} {
		verify(t, v, text, "", why)
	}
	if _, err := newVerifier(t, settings(), Options{}).Verify([]byte(token)); err == nil || !strings.HasPrefix(err.Error(), "the app has no keys") {
		t.Errorf("without keys: %v", err)
	}
}

// TestKnownTokensExpire: a token that was good once is held against the clock each time.
func TestKnownTokensExpire(t *testing.T) {
	s := signers(t)["EdDSA"]
	at := now
	v := newVerifier(t, settings(publicPEM(t, s.key)), Options{Now: func() time.Time { return at }})
	token := s.sign(t, good())
	verify(t, v, token, "a1", "")
	at = now.Add(time.Hour + time.Minute - time.Second)
	verify(t, v, token, "a1", "")
	at = now.Add(time.Hour + time.Minute)
	verify(t, v, token, "", "the token has expired")
	// More tokens than are remembered.
	at = now
	for i := range 2*maxKnown + 1 {
		v.known.add(tokenID{byte(i), byte(i >> 8)}, entry{})
	}
	if n := len(v.known.now) + len(v.known.before); n > 2*maxKnown {
		t.Errorf("%d tokens are remembered", n)
	}
	verify(t, v, token, "a1", "")
}

// TestKeysInTheFile: what is wrong with a key is said with its place, and a private key is not shown.
func TestKeysInTheFile(t *testing.T) {
	all := signers(t)
	public := publicPEM(t, all["ES256"].key)
	f := func(text, want string) {
		t.Helper()
		_, err := New(settings(text), Options{})
		switch {
		case want == "" && err != nil:
			t.Errorf("%v", err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), "router.yaml:7: apps.crm.tokens.keys[0]: "+want)):
			t.Errorf("%.60s: got %v, want %s", text, err, want)
		}
		if _, ok := errors.AsType[config.Problems](err); err != nil && !ok {
			t.Errorf("%T is no list of problems", err)
		}
	}
	f(public, "")
	f("\n"+strings.ReplaceAll(public, "\n", "\r\n")+public, "")
	f("", "is no key in PEM")
	f("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "is no key in PEM")
	f(public+"what is this", "holds something behind its last key")
	f(strings.Replace(public, "A", "B", 3), "is damaged")
	f(publicPEM(t, rsaKey(t, "rsa1024.pem")), "is an RSA key of 1024 bits: at least 2048 are needed")
	f(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), "is a certificate")
	f(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}})), "is damaged")
	f(strings.Repeat(public, maxKeys+1), "there are 33 keys")
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f(publicPEM(t, p224), "is on another curve")
	rsaDER := x509.MarshalPKCS1PublicKey(all["RS256"].key.Public().(*rsa.PublicKey))
	f(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: rsaDER})), "")

	// Private keys, of all kinds and forms, whole and cut.
	for _, s := range all {
		der, err := x509.MarshalPKCS8PrivateKey(s.key)
		if err != nil {
			t.Fatal(err)
		}
		private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		for _, text := range []string{private, private[:len(private)-40], public + private, "x\n" + private} {
			_, err := New(settings(text), Options{})
			if err == nil || !strings.Contains(err.Error(), "is a private key") {
				t.Errorf("%s: got %v", s.alg, err)
			} else if line := strings.Split(private, "\n")[1]; strings.Contains(err.Error(), line[:16]) {
				t.Errorf("the private key is shown: %v", err)
			}
		}
	}
	_, err = New(settings(public+public[:20]), Options{})
	if err == nil {
		t.Error("half a key is taken")
	}
}
