package sandbox

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hostile is text that must not become markup.
const hostile = `<script>alert(1)</script>"'><b onx=y>&amp;`

// fullSandbox has something on each page, much of it hostile.
func fullSandbox(t *testing.T) *client {
	c := newEventClient(t, Options{HubID: "20546336"})
	c.must(201, "POST", propertiesPath, `{"name":"mine","label":"`+"<i>mine"+`","type":"enumeration","fieldType":"select","groupName":"contactinformation",`+
		`"options":[{"label":"<u>","value":"<u>"}]}`)
	c.must(200, "POST", upsertPath, upsert("ada@b.co", "city", "Bonn"))
	c.must(200, "POST", upsertPath, upsert("ada@b.co", "city", hostile))
	c.must(200, "POST", upsertPath, upsert("grace@b.co", "city", "Ulm"))
	if err := c.AddEmail("ada@b.co", "second@b.co"); err != nil {
		t.Fatal(err)
	}
	c.must(204, "POST", sendPath, `{"eventName":"pe20546336_signed_up","email":"ada@b.co","properties":{"plan":"<em>"}}`)
	c.call("GET", "/crm/v3/<svg>", "")
	c.Inject(Fault{Endpoint: "contacts", Status: 503, Times: 2, Contains: "<s>", ApplyLate: 1e9})
	return c
}

var (
	tag     = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)([^>]*)>`)
	isEmpty = map[string]bool{"meta": true, "input": true}
)

// checkHTML finds what a browser or a screen reader would stumble over.
func checkHTML(t *testing.T, name, html string) {
	t.Helper()
	var open []string
	count := map[string]int{}
	for _, m := range tag.FindAllStringSubmatch(html, -1) {
		closing, element, attributes := m[1] != "", m[2], m[3]
		switch {
		case isEmpty[element]:
		case closing:
			if len(open) == 0 || open[len(open)-1] != element {
				t.Errorf("%s: </%s> within %v", name, element, open)
				return
			}
			open = open[:len(open)-1]
		default:
			open = append(open, element)
		}
		if closing {
			continue
		}
		count[element]++
		if element == "th" && !strings.Contains(attributes, `scope="`) {
			t.Errorf("%s: a heading of a table without scope", name)
		}
		if slices.Contains([]string{"script", "iframe", "svg", "i", "u", "em", "b", "s"}, element) || regexp.MustCompile(`\son[a-z]+=`).MatchString(attributes) {
			t.Errorf("%s: <%s%s>: what was received became markup", name, element, attributes)
		}
	}
	if len(open) > 0 {
		t.Errorf("%s: %v are not closed", name, open)
	}
	if count["h1"] != 1 || count["main"] != 1 || count["title"] != 1 || count["table"] != count["caption"] || count["input"] != count["label"] {
		t.Errorf("%s: elements %v", name, count)
	}
	if !strings.Contains(html, `<html lang="en">`) || !strings.Contains(html, `href="#main"`) {
		t.Errorf("%s: no language, or no way to skip the navigation", name)
	}
}

var hrefs = regexp.MustCompile(`href="(/[^"#]*)"`)

// TestPages follows every link from the overview: all pages are there, and sound.
func TestPages(t *testing.T) {
	c := fullSandbox(t)
	seen := map[string]bool{}
	todo := []string{"/_sandbox"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: %q", path, csp)
		}
		checkHTML(t, path, w.Body.String())
		if nav := strings.Count(w.Body.String(), "aria-current"); nav != 2 { // one is the style sheet's
			t.Errorf("%s: the page is marked %d times in the navigation", path, nav)
		}
		for _, m := range hrefs.FindAllStringSubmatch(w.Body.String(), -1) {
			todo = append(todo, strings.ReplaceAll(m[1], "&amp;", "&"))
		}
	}
	if len(seen) < 18 {
		t.Errorf("only %d pages: %v", len(seen), seen)
	}
	status, missing := c.view("GET", "/pages/contacts/999", "")
	if checkHTML(t, "missing", missing); status != 404 {
		t.Errorf("a contact that does not exist: %d", status)
	}
	for _, path := range []string{"/pages/nothing", "/pages/events/1", "/pages/contacts/x"} {
		if status, _ := c.view("GET", path, ""); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// TestPageContents: what a person looks for is there.
func TestPageContents(t *testing.T) {
	c := fullSandbox(t)
	f := func(path string, want ...string) {
		t.Helper()
		_, html := c.view("GET", path, "")
		for _, w := range want {
			if gone, found := strings.CutPrefix(w, "!"); strings.Contains(html, gone) == found {
				t.Errorf("%s: %q in\n%s", path, w, html[strings.Index(html, "<main"):])
			}
		}
	}
	f("", "hub 20546336", "contacts/batch/upsert")
	f("/pages/contacts", "2 contacts, newest first", "ada@b.co, second@b.co", "&lt;script&gt;")
	f("/pages/contacts?q=ULM", "grace@b.co", "!ada@b.co", "1 shown of those that hold “ULM”, of 2 contacts")
	f("/pages/contacts?q=second", "ada@b.co", "!grace@b.co")
	f("/pages/contacts?q=nobody", "Nothing holds “nobody”")
	calls := c.Calls()
	f("/pages/contacts/101", "Contact 101 ada@b.co", "&lt;script&gt;", "<td>Bonn</td>", calls[2].CorrelationID, "pe20546336_signed_up", "second@b.co", "&lt;em&gt;")
	f("/pages/contacts/102", "No custom events")
	f("/pages/events", "pe20546336_signed_up", "ada@b.co", "plan=&lt;em&gt;")
	f("/pages/events?q=%3Cem", "ada@b.co")
	f("/pages/events?q=grace", "Nothing holds")
	f("/pages/definitions", "signed_up", "<code>plan</code>")
	f("/pages/properties?q=own", "mine", "&lt;i&gt;mine", "&lt;u&gt;", "!firstname")
	f("/pages/calls", "/crm/v3/", "events/send", "unknown", "404")
	f("/pages/calls?q=404", "unknown", "!events/send")
	f("/pages/calls?q="+calls[2].CorrelationID, "1 shown of those")
	f("/pages/faults", "status 503", "written 1000 ms after arrival", "&lt;s&gt;", "missing_scopes")
	if _, html := c.view("GET", "/pages/faults", ""); strings.Contains(html, "pat-na1") {
		t.Error("a page shows a token")
	}
}

// TestPageOfMany: the rest is a link away, and each is shown once.
func TestPageOfMany(t *testing.T) {
	c := newClient(t, Options{})
	for i := range 3 {
		c.must(200, "POST", upsertPath, upsertBody(50, i*50))
	}
	seen := map[string]bool{}
	path := "/pages/contacts?q=example.com"
	pagesSeen := 0
	for ; path != ""; pagesSeen++ {
		_, html := c.view("GET", path, "")
		for _, m := range regexp.MustCompile(`pages/contacts/(\d+)`).FindAllStringSubmatch(html, -1) {
			if seen[m[1]] {
				t.Errorf("%s is shown twice", m[1])
			}
			seen[m[1]] = true
		}
		path = ""
		if m := regexp.MustCompile(`href="/_sandbox(/pages/contacts\?[^"]*)">Older`).FindStringSubmatch(html); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 150 || pagesSeen != 3 {
		t.Errorf("%d contacts on %d pages", len(seen), pagesSeen)
	}
	if got := fmt.Sprint(c.ContactCount()); got != "150" {
		t.Errorf("%s contacts", got)
	}
}
