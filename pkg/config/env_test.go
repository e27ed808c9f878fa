package config

import "testing"

func TestReplaceEnv(t *testing.T) {
	env := func(name string) (string, bool) {
		value, ok := map[string]string{"A": "a", "B": "b", "EMPTY": "", "LOOP": "${env.A}"}[name]
		return value, ok
	}
	f := func(in, want string) {
		t.Helper()
		if got, err := (&variables{lookup: env}).replace(in); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	f("", "")
	f("plain", "plain")
	f("${env.A}", "a")
	f("pre-${env.A}-post", "pre-a-post")
	f("${env.A}${env.B}", "ab")
	f("${env.NONE|env.B}", "b")
	f("${env.EMPTY|env.A|env.B}", "a")
	f("${env.NONE|text}", "text")
	f("${env.NONE|env.NEITHER|text}", "text")
	f("${env.NONE|}", "")
	f("${env.NONE|a|b}", "a|b")
	f("${env.NONE|http://x:80/?a=b}", "http://x:80/?a=b")
	f("${env.NONE|environment}", "environment")
	f("${env.LOOP}", "${env.A}")                                      // a value is not replaced again
	f("`${$.event_type}_${_.src}`", "`${$.event_type}_${_.src}`")     // JavaScript
	f("{{if $x}}${ENV.A} $A {{end}}", "{{if $x}}${ENV.A} $A {{end}}") // Go template

	bad := func(in string) {
		t.Helper()
		if got, err := (&variables{lookup: env}).replace(in); err == nil {
			t.Errorf("%s: %q, want an error", in, got)
		}
	}
	bad("${env.NONE}")
	bad("${env.EMPTY}")
	bad("${env.NONE|env.EMPTY}")
	bad("${env.}")
	bad("${env.|env.A}")
	bad("${env.A B}")
	bad("${env.A")
	bad("${env.NONE|${env.A}}")
	bad("${HOME_DIR}")
}

// A value from the environment has the type that YAML would see if it stood in the file.
func TestEnvValuesAreTyped(t *testing.T) {
	cfg := mustParse(t, `
api_keys: a
server:
  port: '${env.PORT}'
  name: ${env.PLACEHOLDER}
  grace: ${env.UNSET|5}s
  data_dir: ${env.UNSET|null}
  max_event_size: ${env.UNSET|1}KB
  host: "${env.UNSET|null}"
destinations:
  crm:
    staged: ${env.YES}
    lanes:
      max_bytes: ${env.PORT}
`)
	s, d := cfg.Server, cfg.Destinations[0]
	if s.Port != 9001 || s.Name != "${env.WORD}" || s.Grace.Seconds() != 5 || s.DataDir != "./data" || s.Host != "null" || s.MaxEventBytes != 1000 {
		t.Errorf("server: %+v", s)
	}
	if !d.Staged || d.Lanes.MaxBytes != 9001 {
		t.Errorf("destination: %+v", d)
	}
	mustFail(t, `{api_keys: a, server: {max_event_size: "${env.EMPTY|}"}}`) // quoted, "" is text and no number
}
