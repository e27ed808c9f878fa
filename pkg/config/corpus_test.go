package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected messages")

// testEnv are the variables of all tests.
func testEnv(name string) (string, bool) {
	value, ok := map[string]string{
		"CLIENT_SECRET":  "js.from-env",
		"SERVER_SECRET":  "s2s.from-env",
		"HUBSPOT_TOKEN":  "pat-from-env",
		"HUBSPOT_HUB_ID": "020546336",
		"EMPTY":          "",

		"ROUTER_ENCRYPTION_KEY": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "HUBSPOT_CLIENT_ID": "client-id", "HUBSPOT_CLIENT_SECRET": "client-secret",

		"PORT":        "9001",
		"YES":         "yes",
		"WORD":        "word",
		"PLACEHOLDER": "${env.WORD}",
		"KEYS":        `{"tokens":[{"id":"id1","client_secret":"cl_secret1","server_secret":"sr_secret1","origins":["abc.com","rr.ru"]},{"client_secret":"cl_secret2"},{"server_secret":"sr_secret3"}]}`,
	}[name]
	return value, ok
}

// Each file of testdata/good loads; what it warns of stands beside it.
func TestGoodFiles(t *testing.T) {
	eachFile(t, "testdata/good/*.yaml", func(t *testing.T, name string, data []byte) string {
		cfg, err := Parse(name, data, testEnv)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return cfg.Warnings.Error()
	})
}

// Each file of testdata/bad is refused with the messages that stand beside it.
func TestBadFiles(t *testing.T) {
	eachFile(t, "testdata/bad/*.bad.yaml", func(t *testing.T, name string, data []byte) string {
		_, err := Parse(name, data, testEnv)
		if err == nil {
			t.Fatal("accepted")
		}
		return err.Error()
	})
}

func eachFile(t *testing.T, pattern string, messages func(t *testing.T, name string, data []byte) string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := messages(t, name, data)
			if got != "" {
				got += "\n"
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}
