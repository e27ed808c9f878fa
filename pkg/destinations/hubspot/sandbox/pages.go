package sandbox

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// pagesPath is where the pages for people stand; the overview is at viewPath.
const pagesPath = viewPath + "/pages/"

// pageRows is how many rows a page shows.
const pageRows = 50

//go:embed pages.html
var pagesText string

// pages are plain HTML: they need no script, and html/template escapes what comes from outside.
var pages = template.Must(template.New("pages").Parse(pagesText))

// page is what all pages have. List is the rows, newest first.
type page struct {
	Title, Hub string
	Base       string // where the pages and lists of this hub are
	Nav        []navItem

	Caption       string
	Search, Query string // label of the search field, and what is searched for
	List          any
	Older         string // URL of the rows that come after

	Holds   []holding
	Counts  []Count
	JSON    []string
	Contact *Contact
	History []pastWrite
	Options []option
	Apps    []App

	HistoryCaption string
}

type navItem struct {
	Name, Path string
	Here       bool
}

// holding is a line of the overview.
type holding struct {
	Name, Path string
	Count      int
}

// pastWrite is one value that a property of a contact was given.
type pastWrite struct {
	Name string
	Write
}

type option struct{ Name, Value string }

// servePage answers with the page called name, which is what follows pagesPath; "" is the overview.
func (s *Sandbox) servePage(w http.ResponseWriter, r *http.Request, name string) {
	q := r.URL.Query()
	p := page{Hub: s.Options().HubID, Base: s.hubPath(s.initial.HubID), Query: strings.TrimSpace(q.Get("q"))}
	skip, err := count(q.Get("skip"), 0)
	if err != nil {
		refuseControl(w, fmt.Errorf("skip %w", err))
		return
	}
	text, status := "", http.StatusOK
	first, id, _ := strings.Cut(strings.Trim(name, "/"), "/")
	switch {
	case id != "" && first != "contacts":
	case first == "":
		text = s.overview(&p)
	case id != "":
		text = s.contactPage(&p, id)
	case first == "contacts":
		text = s.contactsPage(&p, skip)
	case first == "events":
		text = s.eventsPage(&p, skip)
	case first == "definitions":
		text = s.definitionsPage(&p)
	case first == "properties":
		text = s.propertiesPage(&p)
	case first == "calls":
		text = s.callsPage(&p, skip)
	case first == "faults":
		text = s.faultsPage(&p)
	case first == "hubs" && s.provider.top == s:
		text = s.hubsPage(&p, skip)
	}
	if text == "" {
		text, status, p.Title = "missing", http.StatusNotFound, "No such page"
	}
	p.navigate(first)
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, text, p); err != nil {
		panic("BUG: page " + text + ": " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // an error means that the client has gone
}

// navigate makes the links to the other pages.
func (p *page) navigate(here string) {
	p.Nav = []navItem{{"Overview", p.Base, here == ""}}
	for _, name := range []string{"contacts", "events", "definitions", "properties", "calls", "faults"} {
		p.Nav = append(p.Nav, navItem{strings.ToUpper(name[:1]) + name[1:], p.Base + "/pages/" + name, here == name})
	}
	p.Nav = append(p.Nav, navItem{"Hubs", pagesPath + "hubs", here == "hubs"})
}

// rest sets where the rows after those shown are, if there are any.
func (p *page) rest(name string, skip int, more bool) {
	if more {
		p.Older = p.Base + "/pages/" + name + "?" + url.Values{"q": {p.Query}, "skip": {strconv.Itoa(skip + pageRows)}}.Encode()
	}
}

func (s *Sandbox) overview(p *page) string {
	p.Title = "Overview"
	p.Counts = s.Counts()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Holds = []holding{
		{"Contacts", p.Base + "/pages/contacts", len(s.st.contacts.all)},
		{"Events", p.Base + "/pages/events", len(s.st.events.list)},
		{"Event definitions", p.Base + "/pages/definitions", len(s.st.definitions.truth)},
		{"Contact properties", p.Base + "/pages/properties", len(s.st.properties.truth)},
		{"Calls kept", p.Base + "/pages/calls", len(s.calls.last)},
		{"Faults", p.Base + "/pages/faults", len(s.faults)},
	}
	for _, name := range []string{"contacts", "events", "definitions", "properties", "calls", "counts", "faults", "options"} {
		p.JSON = append(p.JSON, p.Base+"/"+name)
	}
	return "overview"
}

// contactsPage searches ids and values for a text.
func (s *Sandbox) contactsPage(p *page, skip int) string {
	p.Title, p.Search = "Contacts", "Id, e-mail address or any value"
	needle := strings.ToLower(p.Query)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.st.contacts.all
	list, more := pick(len(all), skip, func(i int) bool { return all[len(all)-1-i].holds(needle) })
	var rows []Contact
	for _, i := range list {
		rows = append(rows, all[len(all)-1-i].export())
	}
	p.List, p.Caption = rows, caption(len(all), "contact", len(rows), p.Query)
	p.rest("contacts", skip, more)
	return "contacts"
}

// holds reports whether a value of the contact holds the lower-case text.
func (ct *contact) holds(needle string) bool {
	if needle == "" || ct.id == needle {
		return true
	}
	for i := range ct.values {
		if strings.Contains(strings.ToLower(ct.values[i].text), needle) {
			return true
		}
	}
	return slices.ContainsFunc(ct.emails, func(e string) bool { return strings.Contains(e, needle) })
}

// pick returns a page of the numbers below n that match, after skip of them, and whether there are more.
func pick(n, skip int, match func(int) bool) (list []int, more bool) {
	for i := range n {
		if !match(i) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(list) == pageRows {
			return list, true
		}
		list = append(list, i)
	}
	return list, false
}

// caption says how many rows are shown of how many there are.
func caption(all int, what string, shown int, query string) string {
	if all != 1 {
		what += "s"
	}
	switch {
	case query != "":
		return fmt.Sprintf("%d shown of those that hold “%s”, of %d %s", shown, query, all, what)
	case shown < all:
		return fmt.Sprintf("%d shown of %d %s, newest first", shown, all, what)
	}
	return fmt.Sprintf("%d %s, newest first", all, what)
}

func (s *Sandbox) contactPage(p *page, id string) string {
	n, err := strconv.Atoi(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || n < firstID || n-firstID >= len(s.st.contacts.all) {
		return ""
	}
	ct := s.st.contacts.all[n-firstID]
	one := ct.export()
	p.Contact, p.Title = &one, "Contact "+one.ID+" "+one.Properties["email"]
	for i := len(ct.writes) - 1; i >= 0; i-- {
		w := ct.writes[i]
		p.History = append(p.History, pastWrite{w.name, Write{w.text, w.at, correlationID(w.seq)}})
	}
	p.HistoryCaption = "History: what was written last, newest first"
	all := s.st.events.list
	list, _ := pick(len(all), 0, func(i int) bool { return all[len(all)-1-i].contact == ct })
	var rows []Event
	for _, i := range list {
		rows = append(rows, all[len(all)-1-i].export())
	}
	if rows != nil { // else no table is shown
		p.List = rows
	}
	p.Caption = "Its last custom events, newest first"
	return "contact"
}

// eventsPage searches what was sent for a text.
func (s *Sandbox) eventsPage(p *page, skip int) string {
	p.Title, p.Search = "Events", "Name, e-mail address or any value"
	needle := strings.ToLower(p.Query)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.st.events.list
	list, more := pick(len(all), skip, func(i int) bool { return all[len(all)-1-i].holds(needle) })
	var rows []Event
	for _, i := range list {
		rows = append(rows, all[len(all)-1-i].export())
	}
	if rows != nil {
		p.List = rows
	}
	p.Caption = caption(len(all), "event", len(rows), p.Query)
	p.rest("events", skip, more)
	return "eventsPage"
}

// holds reports whether a value of the occurrence holds the lower-case text.
func (ev *event) holds(needle string) (found bool) {
	if needle == "" || strings.Contains(ev.name, needle) {
		return true
	}
	in := gjson.Parse(ev.raw)
	has := func(_, v gjson.Result) bool {
		found = found || strings.Contains(strings.ToLower(v.String()), needle)
		return !found
	}
	for _, name := range []string{"email", "objectId", "utk", "uuid"} {
		has(gjson.Result{}, in.Get(name))
	}
	in.Get("properties").ForEach(has)
	return found
}

func (s *Sandbox) definitionsPage(p *page) string {
	list := s.Definitions()
	p.Title, p.List = "Event definitions", list
	p.Caption = fmt.Sprintf("%d of at most %d, by name", len(list), maxDefinitions)
	return "definitions"
}

// propertiesPage shows those whose name or label holds the text; "own" those that are not HubSpot's.
func (s *Sandbox) propertiesPage(p *page) string {
	all, needle := s.Properties(), strings.ToLower(p.Query)
	var list []Property
	for _, q := range all {
		if strings.Contains(q.Name, needle) || strings.Contains(strings.ToLower(q.Label), needle) || needle == "own" && !q.HubSpotDefined {
			list = append(list, q)
		}
	}
	p.Title, p.Search, p.List = "Contact properties", "Name or label, or own for those that are not HubSpot's", list
	p.Caption = fmt.Sprintf("%d shown of %d, by name", len(list), len(all))
	return "properties"
}

func (s *Sandbox) callsPage(p *page, skip int) string {
	p.Title, p.Search = "Calls", "Operation, path, status or correlation id"
	all, needle := s.Calls(), strings.ToLower(p.Query)
	list, more := pick(len(all), skip, func(i int) bool {
		c := &all[len(all)-1-i]
		return strings.Contains(strings.ToLower(c.Endpoint+" "+c.Path), needle) || strconv.Itoa(c.Status) == needle || c.CorrelationID == needle
	})
	var rows []Call
	for _, i := range list {
		rows = append(rows, all[len(all)-1-i])
	}
	if rows != nil {
		p.List = rows
	}
	p.Caption = caption(len(all), "call", len(rows), p.Query)
	p.rest("calls", skip, more)
	return "callsPage"
}

func (s *Sandbox) faultsPage(p *page) string {
	list := s.listFaults()
	p.Title, p.List = "Faults and options", list
	p.Caption = "Faults: of those that match a call the oldest acts"
	o := s.Options()
	text, err := json.Marshal(o.view())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	gjson.ParseBytes(text).ForEach(func(name, value gjson.Result) bool {
		p.Options = append(p.Options, option{name.Str, value.String()})
		return true
	})
	return "faults"
}
