package endusers

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzVerify: no bytes panic, and none that our key has not signed are taken. The seeds are good and broken tokens.
func FuzzVerify(f *testing.F) {
	all := signers(f)
	var pems strings.Builder
	known := map[string]bool{}
	for _, s := range all {
		pems.WriteString(publicPEM(f, s.key))
		token := s.sign(f, good())
		known[token] = true
		f.Add([]byte(token))
		f.Add([]byte(token[:len(token)/2]))
	}
	v := newVerifier(f, settings(pems.String()), Options{})
	f.Add([]byte("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhMSJ9."))
	f.Add([]byte("..."))
	f.Fuzz(func(t *testing.T, token []byte) {
		account, err := v.Verify(token)
		if err == nil && !known[string(token)] {
			t.Fatalf("%q is taken for %s", token, account)
		}
		if _, refused := errors.AsType[*Refusal](err); err != nil && (!refused || account != "") {
			t.Fatalf("%q: %q, %v", token, account, err)
		}
	})
}

// FuzzKeys: what stands in the file or at a URL never panics, and gives keys that are good for one algorithm, or says why not.
func FuzzKeys(f *testing.F) {
	for _, s := range signers(f) {
		f.Add([]byte(publicPEM(f, s.key)))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AA"},7]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parsePEM(data)
		if err == nil && len(keys) == 0 {
			t.Fatal("neither keys nor an error")
		}
		set, err := parseSet(data)
		if err == nil {
			keys = append(keys, set.keys...)
		}
		for _, k := range keys {
			if again, err := newKey(k.public); err != nil || again.alg != k.alg {
				t.Fatalf("%v, %s", err, k.alg)
			}
		}
	})
}

// FuzzClaims: no bytes panic, and the account is that of the member sub by its exact name, of which there is one.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"a1","iat":1795348800,"exp":1795352400.5,"aud":["x"],"iss":"y","nbf":-1}`))
	f.Add([]byte(`{"sub":"a1","SUB":"a2","\u0073ub":"a3"}`))
	f.Add([]byte(`{"sub":7,"iat":"1"}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c claims
		if json.Unmarshal(data, &c) != nil {
			return
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			if string(bytes.TrimSpace(data)) != "null" {
				t.Fatalf("%q is taken: %v", data, err)
			}
			return
		}
		want := ""
		if raw := all["sub"]; raw != nil && json.Unmarshal(raw, &want) != nil {
			t.Fatalf("%q is taken", data)
		}
		if c.Subject != want {
			t.Fatalf("%q: got the account %q, want %q", data, c.Subject, want)
		}
	})
}
