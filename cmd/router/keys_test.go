package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eventrouter/pkg/config"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/seal"
)

// TestKeysAndTokens: keys of each kind are made, overwrite nothing, and sign tokens that a router takes.
func TestKeysAndTokens(t *testing.T) {
	do := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, &out)
		return out.String(), err
	}
	for _, kind := range []string{"ed25519", "es256", "rs256"} {
		dir := t.TempDir()
		private, public, file := filepath.Join(dir, "private.pem"), filepath.Join(dir, "public.pem"), filepath.Join(dir, "router.yaml")
		out, err := do("keys", "generate", "--type", kind, "--private", private, "--public", public)
		if err != nil || !strings.Contains(out, "key_files: ["+public+"]") {
			t.Fatalf("%s: %v\n%s", kind, err, out)
		}
		info, err := os.Stat(private)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", kind, info.Mode(), err)
		}
		before, _ := os.ReadFile(private)
		for _, args := range [][]string{{"--private", private, "--public", filepath.Join(dir, "x.pem")}, {"--private", filepath.Join(dir, "y.pem"), "--public", public}} {
			if _, err := do(append([]string{"keys", "generate"}, args...)...); err == nil || !strings.Contains(err.Error(), "is there already") {
				t.Errorf("%v: %v", args, err)
			}
		}
		if after, _ := os.ReadFile(private); !bytes.Equal(before, after) {
			t.Error("the private key was overwritten")
		}
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(left) != 2 {
			t.Errorf("left over: %v", left)
		}
		text := fmt.Sprintf(`server: {encryption: {key: %q}}
api_keys: [{id: x, client_secret: js.x}]
apps:
  crm:
    {client_id: c, client_secret: planted-secret, redirect_url: "https://a.example/connect/crm/callback", scopes: [oauth], tokens: {key_files: [public.pem], audience: router, issuer: us, max_age: 2h}}
destinations: {customers: {type: hubspot, connection: crm, hubspot: {}}}
`, seal.NewKey())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		token, err := do("token", "--config", file, "--app", "crm", "--account", "a1", "--key", private, "--kid", "k1")
		if err != nil {
			t.Fatal(kind, err)
		}
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := endusers.New(cfg.Apps[0].Tokens, endusers.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if account, err := v.Verify([]byte(strings.TrimSpace(token))); account != "a1" || err != nil {
			t.Errorf("%s: %q, %v", kind, account, err)
		}
		for _, c := range [][2]string{
			{"--app zz --account a1 --key " + private, "has no app zz"},
			{"--app crm --account a1 --key " + public, "is a public key"},
			{"--app crm --account a1 --key " + file, "is no key in PEM"},
			{"--app crm --account a1 --ttl 3h --key " + private, "the router would not take it: the token is good for longer"},
			{"--app crm --account a1 --audience other --key " + private, "the router would not take it: the token's aud"},
		} {
			if out, err := do(append([]string{"token", "--config", file}, strings.Fields(c[0])...)...); err == nil || !strings.Contains(err.Error(), c[1]) {
				t.Errorf("%s: got %s, %v, want %s", c[0], out, err, c[1])
			}
		}
	}
}

// TestAppsWithOneKey: a token for one app that is good at another is warned of, unless each has an audience of its own.
func TestAppsWithOneKey(t *testing.T) {
	app := func(name, key, audience string) config.App {
		a := config.DefaultApp(name)
		a.Tokens.Audience = audience
		a.Tokens.Keys = []config.KeyText{{Text: key}}
		return a
	}
	f := func(want int, apps ...config.App) {
		t.Helper()
		if got := sharedKeys(apps); len(got) != want {
			t.Errorf("got %v, want %d warnings", got, want)
		}
	}
	f(1, app("a", "k1", ""), app("b", "k1\n", ""))
	f(0, app("a", "k1", "a"), app("b", "k1", "b"))
	f(0, app("a", "k1", ""), app("b", "k2", ""))
}
