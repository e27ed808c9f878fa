package config

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/docs"
)

// pages answers calls by "GET URL", and knows a configurator's token by the header, for which the recordings have the query.
type pages map[string]string

func (p pages) RoundTrip(r *http.Request) (*http.Response, error) {
	name := r.Method + " " + r.URL.String()
	if token := r.Header.Get("X-Admin-Token"); token != "" {
		name += "?token=" + token
	}
	body, ok := p[name]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestJitsuKeyForms: each form of api_keys gives the keys that it gives in Jitsu, but for those listed in docs/jitsu-differences.md.
func TestJitsuKeyForms(t *testing.T) {
	const group = "upstream-tests.api_keys_forms"
	data, err := os.ReadFile("../../testdata/jitsu/config.json")
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		ID           string   `json:"id"`
		ClientSecret string   `json:"client_secret"`
		ServerSecret string   `json:"server_secret"`
		Origins      []string `json:"origins"`
	}
	var groups map[string][]struct {
		Name  string
		Input struct {
			YAML              string
			Body              string
			ConfiguratorURL   string `json:"configurator_url"`
			ConfiguratorToken string `json:"configurator_token"`
			HTTP              pages
			Files             map[string]string
		}
		Expected struct{ Keys []key }
	}
	if err := json.Unmarshal(data, &groups); err != nil {
		t.Fatal(err)
	}
	differs := docs.Differences(group)
	if len(groups[group]) < 10 {
		t.Fatalf("only %d cases", len(groups[group]))
	}
	for _, c := range groups[group] {
		t.Run(c.Name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range c.Input.Files {
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			text := c.Input.YAML
			if c.Input.ConfiguratorURL != "" {
				text += fmt.Sprintf("\nconfigurator: {base_url: %q, admin_token: %q}\n", c.Input.ConfiguratorURL, c.Input.ConfiguratorToken)
			}
			if c.Input.Body != "" {
				text, c.Input.HTTP = "api_keys: https://tokens", pages{"GET https://tokens": c.Input.Body}
			}
			if !strings.Contains(text, "destinations") {
				text += "\ndestinations: {crm: {type: hubspot}}"
			}
			e := NewElsewhere(c.Input.HTTP)
			cfg, err := ParseWith("jitsu.yaml", []byte(text), Options{
				Env:  testEnv,
				Read: func(a Address, _ Server) ([]byte, error) { return e.Read(context.Background(), a) },
			})
			got := []key{}
			if err == nil {
				for _, k := range cfg.APIKeys {
					got = append(got, key{k.ID, string(k.ClientSecret), string(k.ServerSecret), k.Origins})
				}
			}
			diff := cmp.Diff(c.Expected.Keys, got)
			if err != nil {
				diff = "refused: " + err.Error() // also where Jitsu goes on without a key
			}
			switch reason, listed := differs[c.Name]; {
			case diff != "" && !listed:
				t.Errorf("%s\n(-Jitsu +router):\n%s", text, diff)
			case diff == "" && listed:
				t.Errorf("comes out as in Jitsu, and docs/jitsu-differences.md says why not: %s", reason)
			}
		})
	}
}
