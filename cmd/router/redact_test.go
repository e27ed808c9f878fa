package main

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"eventrouter/pkg/config"
)

// TestRedactedAnswerStaysJSON, whatever the secrets are, and however a client has written them.
func TestRedactedAnswerStaysJSON(t *testing.T) {
	cfg := &config.Config{APIKeys: []config.APIKey{{ClientSecret: "12345678", ServerSecret: `a/secret"&é`}}}
	data, err := newRedactor(cfg).json(map[string]any{
		"number": 12345678,
		"text":   `of 12345678, a/secret"&é`,
		"detail": json.RawMessage(`{"12345678":"x12345678y","v":"a\/secret\u0022\u0026\u00e9"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text   string
		Detail map[string]string
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	if got.Text != "of ***, ***" || got.Detail["***"] != "x***y" || got.Detail["v"] != "***" {
		t.Errorf("got %s", data)
	}
	if !strings.Contains(string(data), `"number":12345678`) { // a client wrote it as a number: no secret is one
		t.Errorf("got %s", data)
	}
}

// TestSecretsAreHiddenInAddressesAndCredentials: a client may repeat where it posts, or with which header.
func TestSecretsAreHiddenInAddressesAndCredentials(t *testing.T) {
	cfg := &config.Config{APIKeys: []config.APIKey{{ClientSecret: "js.plain-secret", ServerSecret: `s2s+and/more=secret`}}}
	r := newRedactor(cfg)
	for _, text := range []string{
		"https://r/api/v1/event?token=s2s%2Band%2Fmore%3Dsecret", "https://r/s2s%2band%2fmore%3dsecret/x", "https://r/s2s+and%2Fmore=secret/x",
		"Basic " + base64.StdEncoding.EncodeToString([]byte("js.plain-secret:")), "Basic " + base64.StdEncoding.EncodeToString([]byte("js.plain-secret:password")),
		base64.StdEncoding.EncodeToString([]byte("s2s+and/more=secret:")), base64.URLEncoding.EncodeToString([]byte("s2s+and/more=secret:")),
	} {
		got := r.text(text)
		plain, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, "Basic "))
		if !strings.Contains(got, "***") || strings.Contains(got, "more") || strings.Contains(string(plain), "secret") {
			t.Errorf("%s is shown as %s", text, got)
		}
	}
}
