package testcase

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// FuzzParse: any file is a case or an error; its sections are those that txtar finds, and rewriting touches nothing but what it is to.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(strings.ReplaceAll(whole, "\n", "\r\n")))
	f.Add([]byte("-- events.jsonl --\n{}\n-- want/crm.txt --"))
	f.Add([]byte("-- a --\n--  --\n-- --\n-- b --\r"))
	f.Add([]byte("-- events.jsonl --\n@ at=+1h key=\"\\u0000\"\n{\"a\":1}{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		original := bytes.Clone(data)
		same(t, data)
		c, err := Parse("a.txtar", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "a.txtar") {
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		var all []Expected
		for _, name := range c.Wanted() {
			text, _, _ := c.Want(name)
			all = append(all, Expected{name, text})
		}
		if got := c.Updated(all); !bytes.Equal(got, original) {
			t.Errorf("rewritten with what it expects:\n got %q\nwant %q", got, original)
		}
		all = append(all, Expected{"added", "event 1\n  -- a --\n"})
		for i := range all {
			all[i].Text += "more\n"
		}
		updated := c.Updated(all)
		again, err := Parse("a.txtar", updated)
		if err != nil {
			t.Fatalf("rewritten: %v\n%q", err, updated)
		}
		for _, e := range all {
			if text, _, _ := again.Want(e.Destination); text != e.Text {
				t.Errorf("want/%s.txt: got %q, want %q", e.Destination, text, e.Text)
			}
		}
		if diff := cmp.Diff(c.Events, again.Events); diff != "" && !strings.Contains(string(original), "want/") {
			t.Errorf("other events:\n%s", diff)
		}
	})
}

// same compares the sections with those of txtar.
func same(t *testing.T, data []byte) {
	t.Helper()
	var want, got []txtar.File
	for _, file := range txtar.Parse(data).Files {
		want = append(want, txtar.File{Name: file.Name, Data: file.Data})
	}
	for _, s := range sections(data) {
		text := s.Text
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(bytes.Clone(text), '\n')
		}
		got = append(got, txtar.File{Name: s.Name, Data: text})
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
		t.Errorf("%q (-txtar +got):\n%s", data, diff)
	}
}
