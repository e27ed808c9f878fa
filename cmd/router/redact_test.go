package main

import (
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
