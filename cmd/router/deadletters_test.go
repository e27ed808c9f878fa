package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

// inBothWays runs f with a router that runs and, with the same dead letters, with its data directory alone.
func inBothWays(t *testing.T, f func(t *testing.T, g *lettersRig)) {
	t.Helper()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			g := newLettersRig(t, "", "")
			g.start()
			g.post(deadEvents)
			if !running {
				g.run.stop()
			}
			f(t, g)
		})
	}
}

func TestDeadLettersAreListed(t *testing.T) {
	inBothWays(t, func(t *testing.T, g *lettersRig) {
		f := func(want string, args ...string) {
			t.Helper()
			if got := strings.Join(g.listed("event_id", args...), " "); got != want {
				t.Errorf("list %v: %q, want %q", args, got, want)
			}
		}
		f("e3 e2 e1")
		f("e3 e2", "--limit", "2")
		f("e1", "--past", "2")
		f("e2", "2")
		f("e3 e1", "1", "--id", "3")
		f("e2", "--event-id", "e2")
		f("e1", "--person", "Ada@Example.c1")
		f("e3 e2 e1", "--destination", "crm", "--reason", "rejected", "--event-type", "user_identify", "--api-key", "web", "--lane", "contacts", "--hub", demoHub)
		f("", "--destination", "lake")
		f("", "--reason", "filter")
		f("", "--account", "acme")
		f("e3 e2 e1", "--since", "1h")
		f("", "--since", "2100-01-01")
		f("e3 e2 e1", "--until", "2100-01-01T00:00:00Z")
		f("", "--until", "7d")

		if out := g.letters("list"); !strings.Contains(out, "ada@example.c1") || !strings.Contains(out, "rejected") || strings.Contains(out, "fine@") {
			t.Errorf("the table: %s", out)
		}
		if _, errText, _ := g.try("list", "--limit", "2"); !strings.Contains(errText, "--past 2") {
			t.Errorf("a page does not say how to go on: %q", errText)
		}
		if out := g.letters("list", "--destination", "lake"); out != "no dead letters\n" {
			t.Errorf("without any: %q", out)
		}
		out := g.letters("show", "1")
		for _, want := range []string{"dead letter 1\n", "ada@example.c1", "reason", "rejected", `"score": 12345678901234567890`, "attempts"} {
			if !strings.Contains(out, want) {
				t.Errorf("show lacks %q:\n%s", want, out)
			}
		}
		g.refused(exitFailed, "no dead letter 99", "show", "1", "99")
		g.refused(exitUsage, "--reason must be one of", "list", "--reason", "nonsense")
		g.refused(exitUsage, "--since: write a time", "list", "--since", "yesterday")
	})
}

func TestDeadLetterIsEdited(t *testing.T) {
	inBothWays(t, func(t *testing.T, g *lettersRig) {
		event := func(id string) string { return gjson.Get(g.letters("show", "--json", id), "event").Raw }
		before := gjson.Get(g.letters("list", "--json", "1"), "@this").Raw
		g.letters("edit", "1", "--set", `user.email="ada@example.com"`, "--set", `user.tags=["a",1]`)
		if got := event("1"); gjson.Get(got, "user.email").Str != "ada@example.com" || gjson.Get(got, "user.tags").Raw != `["a",1]` ||
			gjson.Get(got, "user.score").Raw != "12345678901234567890" {
			t.Errorf("after --set: %s", got)
		}
		after := g.letters("list", "--json", "1")
		found := func(want string, args ...string) {
			t.Helper()
			if got := strings.Join(g.listed("event_id", args...), " "); got != want {
				t.Errorf("list %v after the edit: %q, want %q", args, got, want)
			}
		}
		found("e1", "--person", "Ada@example.com")
		found("", "--person", "ada@example.c1")
		for _, member := range []string{"event_id", "api_key", "received", "at", "log_offset"} {
			if was, is := gjson.Get(before, member).Raw, gjson.Get(after, member).Raw; was != is {
				t.Errorf("%s changed from %s to %s", member, was, is)
			}
		}

		// An editor that changes one word, and one that changes nothing.
		script := filepath.Join(t.TempDir(), "editor")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$(stat -c %a \"$2\")\" = 600 ] && sed -i s/Bob/Robert/ \"$2\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("VISUAL", "")
		t.Setenv("EDITOR", script+" --wait")
		g.letters("edit", "2")
		if got := event("2"); gjson.Get(got, "user.firstname").Str != "Robert" || strings.Contains(got, "\n  ") {
			t.Errorf("after the editor: %s", got)
		}
		if out := g.letters("edit", "2"); out != "nothing changed\n" {
			t.Errorf("an editor that changes nothing: %q", out)
		}
		t.Setenv("EDITOR", "false")
		g.refused(exitFailed, "nothing is changed", "edit", "2")

		if strings.HasSuffix(t.Name(), "stopped") {
			return // what follows is refused by the same code, and each command opens the store
		}
		file := filepath.Join(t.TempDir(), "event.json")
		from := func(text string) string {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}
		g.letters("edit", "3", "--file", from(`{"event_type":"user_identify","user":{"email":"eve@example.com"}}`))
		if got := gjson.Get(event("3"), "user").Raw; got != `{"email":"eve@example.com"}` {
			t.Errorf("after --file: %s", got)
		}
		for _, bad := range []string{`{"event_type":`, `[1]`, `null`, `{} {}`, strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300)} {
			g.refused(exitUsage, "the event is refused", "edit", "3", "--file", from(bad))
		}
		g.refused(exitFailed, "event_type would change", "edit", "3", "--set", `event_type="sign_up"`)
		g.letters("edit", "3", "--set", `event_type="sign_up"`, "--other-type")
		found("e3", "--event-type", "sign_up")
		found("e2 e1", "--event-type", "user_identify")
		found("e3", "--person", "eve@example.com")
		g.refused(exitFailed, "exceeds limit", "edit", "3", "--set", `x="`+strings.Repeat("y", 60_000)+`"`)
		g.refused(exitUsage, "texts have quotes", "edit", "3", "--set", `x=text`)
		g.refused(exitFailed, "no dead letter 99", "edit", "99", "--set", `x=1`)
		t.Setenv("EDITOR", "")
		g.refused(exitUsage, "set EDITOR", "edit", "3")
	})
}

func TestDeadLettersAreDropped(t *testing.T) {
	inBothWays(t, func(t *testing.T, g *lettersRig) {
		g.refused(exitUsage, "which dead letters are to be dropped?", "drop", "--yes")
		g.refused(exitUsage, "say --yes", "drop", "1")
		if out := g.letters("drop", "--reason", "rejected", "--dry-run"); !strings.Contains(out, "all") || len(g.listed("id")) != 3 {
			t.Errorf("--dry-run: %s", out)
		}
		if out := g.letters("drop", "--person", "bob@example.c1", "--yes"); !strings.Contains(out, "1 dead letter dropped") {
			t.Error(out)
		}
		if got := g.listed("event_id"); !slices.Equal(got, []string{"e3", "e1"}) {
			t.Errorf("left are %v", got)
		}
		if out := g.letters("drop", "--everything", "--yes"); !strings.Contains(out, "2 dead letters dropped") || len(g.listed("id")) != 0 {
			t.Error(out)
		}
		if out := g.letters("drop", "--everything", "--yes"); out != "no dead letters\n" {
			t.Error(out)
		}
	})
}

// TestDeadLettersGoOutAndIn: an export holds all that an import needs, --drop takes away what is in it, and nothing is imported twice.
func TestDeadLettersGoOutAndIn(t *testing.T) {
	inBothWays(t, func(t *testing.T, g *lettersRig) {
		before := g.letters("list", "--json")
		dir := t.TempDir()
		file := filepath.Join(dir, "dead.ndjson")
		g.letters("export", "--destination", "crm", "--output", file, "--drop")
		if got := g.listed("id"); len(got) != 0 {
			t.Errorf("--drop left %v", got)
		}
		if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", fi.Mode(), err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the file is %v (%v)", entries, err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), `"user":{"email":"ada@example.c1","firstname":"Ada","score":12345678901234567890}`) {
			t.Errorf("the event is not to be read in %s", data)
		}
		g.refused(exitUsage, "is there already", "export", "--everything", "--output", file)
		g.refused(exitUsage, "which dead letters are to be exported?", "export", "--output", file, "--force")
		g.refused(exitUsage, "--drop needs --output", "export", "--everything", "--drop")

		// A line that is damaged is named, and nothing of its file is imported.
		lines := strings.SplitAfter(string(data), "\n")
		bad := filepath.Join(dir, "bad.ndjson")
		if err := os.WriteFile(bad, []byte(lines[0]+strings.Replace(lines[1], "Bob", "Rob", 1)+lines[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		g.refused(exitFailed, "line 2: its checksum does not match", "import", bad)
		if got := g.listed("id"); len(got) != 0 {
			t.Errorf("a damaged file left %v", got)
		}
		out, errText, code := g.try("import", bad, "--skip-malformed")
		if code != exitFailed || !strings.Contains(out, "2 dead letters imported") || !strings.Contains(errText, "line 2: its checksum") {
			t.Errorf("--skip-malformed: %d %q %q", code, out, errText)
		}
		if out := g.letters("import", file, file); !strings.Contains(out, "1 dead letter imported, 5 were there") {
			t.Errorf("the whole file twice: %s", out)
		}
		plain := func(list string) (all []string) {
			for line := range strings.Lines(list) {
				_, rest, _ := strings.Cut(line, `"at"`) // the ids are new ones
				all = append(all, rest)
			}
			slices.Sort(all)
			return all
		}
		withoutID := func(list string) string {
			var b strings.Builder
			for line := range strings.Lines(list) {
				m := gjson.Parse(line).Map()
				delete(m, "id")
				for _, name := range slices.Sorted(mapKeys(m)) {
					fmt.Fprintf(&b, "%s=%s ", name, m[name].Raw)
				}
				b.WriteString("\n")
			}
			return strings.Join(plain(b.String()), "\n")
		}
		if diff := cmp.Diff(withoutID(before), withoutID(g.letters("list", "--json"))); diff != "" {
			t.Errorf("what came back differs (-before +after):\n%s", diff)
		}

		// Again to standard output, by ids. What forget can not reach is noted.
		if out := g.letters("export", "--event-id", "e2"); !strings.Contains(out, "Bob") || strings.Count(out, "\n") != 1 {
			t.Errorf("to standard output: %s", out)
		}
		g.run.stop()
		st, err := storeOf(g)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		exports, err := st.Exports(t.Context())
		if err != nil || len(exports) != 2 || !strings.Contains(exports[0].Target, file) || exports[0].Letters != 3 || exports[0].Query != "destination=crm" ||
			exports[1].Query != "one event_id" {
			t.Errorf("exports: %+v %v", exports, err)
		}
	})
}
