package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const planted = "sk-9d41c7e0"

// nest holds secrets in all the ways that configuration does.
type nest struct {
	One   Secret
	Ptr   *Secret
	List  []Secret
	Map   map[string]Secret
	Deep  struct{ Two Secret }
	Any   any
	Empty Secret
}

func newNest() nest {
	s := Secret(planted)
	n := nest{One: s, Ptr: &s, List: []Secret{s}, Map: map[string]Secret{"k": s}, Any: s}
	n.Deep.Two = s
	return n
}

func TestSecretNeverPrints(t *testing.T) {
	f := func(how, got string) {
		t.Helper()
		if strings.Contains(got, planted) || strings.Contains(got, fmt.Sprintf("%x", planted)) || strings.Contains(got, fmt.Sprintf("%X", planted)) {
			t.Errorf("%s shows the secret: %s", how, got)
		}
		if !strings.Contains(got, redacted) && !strings.Contains(got, fmt.Sprintf("%x", redacted)) && !strings.Contains(got, fmt.Sprintf("%X", redacted)) {
			t.Errorf("%s does not say that there is one: %s", how, got)
		}
	}
	n := newNest()
	for _, verb := range strings.Fields("%v %+v %#v %s %q %+q %#q %x %X %#x % x %d %c %U %e %t %b %o %T%v %20v %-20s %.2v%v %z") {
		for _, value := range []any{n.One, n.Ptr, n.List, n.Map, n.Deep, n.Any, struct{ S any }{n.One}} {
			if got := fmt.Sprintf(verb, value, value); !strings.Contains(got, "0x") || strings.Contains(got, redacted) {
				f(fmt.Sprintf("%s of %T", verb, value), got)
			}
		}
		f(verb+" of a struct", fmt.Sprintf(verb, n, n))
	}
	f("Println", fmt.Sprintln(n))
	f("an error", fmt.Errorf("refused %v: %w", n.One, errors.New("x")).Error())

	asJSON, err := json.Marshal(n)
	f(fmt.Sprintf("JSON (%v)", err), string(asJSON))
	asYAML, err := yaml.Marshal(n)
	f(fmt.Sprintf("YAML (%v)", err), string(asYAML))

	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(h)
		for _, value := range []any{n.One, n.Ptr, n.List, n.Map, n, &n} {
			out.Reset()
			log.Info("configured", "value", value)
			if !strings.Contains(out.String(), "value=0x") {
				f(fmt.Sprintf("slog %T of %T", h, value), out.String())
			}
		}
		out.Reset()
		log.With("token", n.One).WithGroup("g").Info("configured", slog.Any("token", n.One), slog.Group("h", "token", n.One))
		f(fmt.Sprintf("slog %T with groups", h), out.String())
	}
	if got := fmt.Sprintf("%v|%s|%+v", n.Empty, n.Empty, n.Empty); got != "||" {
		t.Errorf("an empty secret prints %q", got)
	}
	if n.One != planted {
		t.Error("a secret does not compare with its value")
	}
}

// everySecret has the planted secret in each value that is one.
const everySecret = `server:
  admin_token: PLANTED-0
api_keys:
  - id: web
    client_secret: PLANTED-1
    server_secret: PLANTED-2
    origins: ["*.example.com"]
  - PLANTED-3
destinations:
  crm:
    type: hubspot
    only_tokens: [PLANTED-1, PLANTED-3]
    hubspot:
      access_token: PLANTED-4
      api_key: PLANTED-5
      hub_id: 1
      password: [PLANTED-6]
`

// check makes all messages there are of a file: of Parse, and of a component that expects numbers where the secrets stand.
func check(file string) string {
	env := func(name string) (string, bool) { return planted + name, true }
	cfg, err := Parse("f.yaml", []byte(file), env)
	if err != nil {
		return err.Error()
	}
	messages := fmt.Sprintf("%v\n%+v\n%#v\n", cfg.Warnings, cfg, *cfg)
	for _, d := range cfg.Destinations {
		var wrong struct {
			AccessToken int               `yaml:"access_token"`
			APIKey      logLevel          `yaml:"api_key"`
			HubID       int               `yaml:"hub_id"`
			Password    map[string]string `yaml:"password"`
		}
		messages += fmt.Sprintf("%v\n%+v\n", d.Settings.Decode(&wrong), d.Settings)
	}
	return messages
}

func TestNoMessageHoldsASecret(t *testing.T) {
	checked := 0
	f := func(file string) {
		t.Helper()
		checked++
		if got := check(file); strings.Contains(got, planted) {
			t.Errorf("%s\nshows the secret:\n%s", file, got)
		}
	}
	literal := strings.ReplaceAll(everySecret, "PLANTED", planted)
	if got := check(literal); !strings.Contains(got, `access_token: the value is not a whole number`) {
		t.Fatalf("the component's messages are missing:\n%s", got)
	}
	f(literal)
	f(strings.ReplaceAll(everySecret, "PLANTED", `"${env.X}"`))

	for i := range literal { // a file cut anywhere
		f(literal[:i])
	}
	lines := strings.SplitAfter(literal, "\n")
	for i := range lines { // a line lost, doubled, or indented otherwise
		before, line, after := strings.Join(lines[:i], ""), lines[i], strings.Join(lines[i+1:], "")
		f(before + after)
		f(before + line + line + after)
		f(before + " " + line + after)
		f(before + "\t" + line + after)
		f(before + "- " + line + after)
	}
	for _, slip := range []string{"*", "&", "!", "!!int ", "%", "@", "`", "|", ">", "'", `"`, "[", "{", "{a: ", "?", "- ", "${", "${env.", "\x00", "\xff", "https://", "file://", `'{"tokens": ["`, "null ", "é"} {
		for i := range 7 { // before each secret
			mark := fmt.Sprintf("%s-%d", planted, i)
			f(strings.Replace(literal, mark, slip+mark, 1))
			f(strings.Replace(literal, mark, slip+mark+slip, 1))
		}
	}
	for _, forms := range []string{
		"api_keys: PLANTED", "api_keys: {tokens: [PLANTED]}", "api_keys: {client_secret: PLANTED}", "api_keys: [[PLANTED]]", "api_keys: [{PLANTED: x}]",
		`api_keys: '{"tokens": [{"client_secret": "PLANTED", "server_secret": 1, "x": 2}]}'`, `api_keys: '{"tokens": [{"PLANTED": 1}]}'`, `api_keys: '{"PLANTED": 1}'`,
		`api_keys: '{"tokens": [*PLANTED]}'`, "api_keys: [PLANTED, PLANTED]", "api_keys: [{client_secret: PLANTED}, {server_secret: PLANTED}]",
		"api_keys: [{id: PLANTED, client_secret: PLANTED}]", "api_keys: [{client_secret: PLANTED, server_secret: PLANTED}]",
		"api_keys: https://user:PLANTED@example.com", "api_keys: a\ndestinations: {crm: {only_tokens: PLANTED}}", "api_keys: a\ndestinations: {crm: {only_tokens: {PLANTED: 1}}}",
		"server: {auth: PLANTED, s2s_auth: [PLANTED], api_keys: {a: PLANTED}, admin_token: {PLANTED: 1}}",
		"api_keys: a\nserver: {port: '${env.X}', log: {level: '${env.X}'}, trusted_proxies: ['${env.X}'], grace: '${env.X}', max_event_size: '${env.X}'}",
	} {
		f(strings.ReplaceAll(forms, "PLANTED", planted))
	}
	if checked < 500 {
		t.Errorf("only %d files", checked)
	}
}
