package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkManyKeys reads and compares 10,000 API keys from elsewhere: what a change of one key costs.
func BenchmarkManyKeys(b *testing.B) {
	var list []string
	for i := range 10_000 {
		list = append(list, fmt.Sprintf(`{"id":"key%d","client_secret":"js.0123456789abcdef-%d","server_secret":"s2s.0123456789abcdef-%d","origins":["*.example.com"]}`, i, i, i))
	}
	body := `{"tokens":[` + strings.Join(list, ",") + `]}`
	parse := func() *Config {
		cfg, err := parseElsewhere("api_keys: https://keys\ndestinations: {crm: {}}", map[string]string{"https://keys": body})
		if err != nil {
			b.Fatal(err)
		}
		return cfg
	}
	old := parse()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if changes := parse().Changes(old); len(changes) > 0 {
			b.Fatal(changes)
		}
	}
}
