package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReloadOfATransformFile: a change of a transform file is a change of the configuration, also where only the script was wrong.
func TestReloadOfATransformFile(t *testing.T) {
	t.Parallel()
	c, box, file := newReloadable(t)
	script := filepath.Join(filepath.Dir(file), "pipelines", "crm.js")
	if err := os.Mkdir(filepath.Dir(script), 0o700); err != nil {
		t.Fatal(err)
	}
	names := func(first string) string { return "return {...$, user: {...$.user, firstname: \"" + first + "\"}}\n" }
	replaceFile(t, script, names("One"))
	c.more = "    data_layout: {transform_file: pipelines/crm.js}"
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	isNamed := func(email, want string) {
		t.Helper()
		r.post("s2s-planted-web", `{"event_type":"user_identify","user":{"email":"`+email+`"}}`)
		r.within(10*time.Second, email, func() bool { _, ok := box.Contact(email); return ok })
		if contact, _ := box.Contact(email); contact.Properties["firstname"] != want {
			t.Errorf("%s: %v, want %s", email, contact.Properties, want)
		}
	}
	isNamed("a@example.com", "One")

	replaceFile(t, script, names("Two"))
	r.logged(6*time.Second, "destination crm: data_layout.transform changed", 1)
	isNamed("b@example.com", "Two")

	// Wrong, for long: said once, with the script's own line, and the one before stays.
	replaceFile(t, script, "\n\nreturn $.a +* 2\n")
	r.logged(6*time.Second, script+":3: destinations.crm.data_layout.transform: ", 1)
	time.Sleep(3 * fileInterval) // that it says nothing more is what is to be seen
	r.logged(0, "is not reloaded", 1)
	isNamed("c@example.com", "Two")
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	r.logged(6*time.Second, "there is no file "+script, 1)
	isNamed("d@example.com", "Two")

	// Put right, and nothing else is touched.
	replaceFile(t, script, names("Three"))
	r.logged(6*time.Second, "the configuration is right again", 1)
	isNamed("e@example.com", "Three")

	// A new name whose file is wrong: to mend that file is enough.
	other := filepath.Join(filepath.Dir(script), "other.js")
	replaceFile(t, other, "return $.")
	r.rewrite(strings.Replace(c.String(), "crm.js", "other.js", 1))
	r.logged(6*time.Second, "is not reloaded", 3)
	replaceFile(t, other, names("Four"))
	r.logged(6*time.Second, "destination crm: data_layout.transform changed", 3)
	isNamed("f@example.com", "Four")
	if strings.Contains(r.logs.String(), "needs a restart") {
		t.Error("something waits for a restart")
	}

	// When nothing names it any more, it is not looked at.
	c.more = ""
	r.rewrite(c.String())
	r.logged(6*time.Second, "destination crm: data_layout.transform changed", 4)
	before := strings.Count(r.logs.String(), "configuration is reloaded")
	replaceFile(t, other, names("Five"))
	time.Sleep(3 * fileInterval) // that nothing happens is what is to be seen
	r.logged(0, "configuration is reloaded", before)
}

// TestAddressDoesNotReadScripts: what changes at an address is checked with the transform that is in force, not with a file that is being worked on.
func TestAddressDoesNotReadScripts(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	dir := filepath.Dir(file)
	script, keys := filepath.Join(dir, "crm.js"), filepath.Join(dir, "keys.json")
	replaceFile(t, script, "return {...$}")
	replaceFile(t, keys, `{"tokens":[{"id":"web","server_secret":"s2s-planted-web"}]}`)
	c.keys, c.more = "file://"+keys, "    data_layout: {transform_file: crm.js}"
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	replaceFile(t, script, "return $.")
	r.logged(6*time.Second, "is not reloaded", 1)
	replaceFile(t, keys, `{"tokens":[{"id":"web","server_secret":"s2s-planted-web"},{"id":"app","server_secret":"s2s-planted-app"}]}`)
	r.logged(6*time.Second, "API key app: added", 1)
	r.accepts("s2s-planted-app", 200)
}
