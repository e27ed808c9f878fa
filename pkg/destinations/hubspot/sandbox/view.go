package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// viewPath is where people and scripts look at what was received. It needs no token: a sandbox holds nothing real.
const viewPath = "/_sandbox"

func isView(path string) bool { return path == viewPath || strings.HasPrefix(path, viewPath+"/") }

// serveView answers
//
//	GET    /_sandbox                     a page for people
//	GET    /_sandbox/contacts?email=     JSON lists, newest first; ?limit=, 100 unless told
//	GET    /_sandbox/events?email=
//	GET    /_sandbox/definitions, /properties, /calls, /counts
//	POST   /_sandbox/faults              injects one, see faultRequest
//	DELETE /_sandbox/faults              clears them
//	DELETE /_sandbox                     Reset
func (s *Sandbox) serveView(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 0 {
		limit = 100
	}
	switch name := strings.Trim(strings.TrimPrefix(r.URL.Path, viewPath), "/"); r.Method + " " + name {
	case "GET ":
		s.servePage(w)
	case "GET contacts":
		if email := r.URL.Query().Get("email"); email != "" {
			var one []Contact
			if ct, ok := s.Contact(email); ok {
				one = []Contact{ct}
			}
			serveList(w, limit, one)
			return
		}
		total, newest := s.newestContacts(limit)
		writeList(w, total, newest)
	case "GET events":
		total, newest := s.newestEvents(limit, r.URL.Query().Get("email"))
		writeList(w, total, newest)
	case "GET definitions":
		serveList(w, limit, s.Definitions())
	case "GET properties":
		serveList(w, limit, s.Properties())
	case "GET calls":
		serveList(w, limit, s.Calls())
	case "GET counts":
		serveList(w, limit, s.Counts())
	case "POST faults":
		s.postFault(w, r)
	case "DELETE faults":
		s.mu.Lock()
		s.faults = nil
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case "DELETE ":
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// newestContacts copies no more than it returns: an account may hold millions.
func (s *Sandbox) newestContacts(limit int) (total int, list []Contact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.st.contacts.all
	for i := len(all) - 1; i >= max(0, len(all)-limit); i-- {
		list = append(list, all[i].export())
	}
	return len(all), list
}

// newestEvents takes those sent with the address; "" takes all.
func (s *Sandbox) newestEvents(limit int, email string) (total int, list []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.st.events.list
	for i := len(all) - 1; i >= 0; i-- {
		if email != "" && foldEmail(gjson.Get(all[i].raw, "email").String()) != foldEmail(email) {
			continue
		}
		if total++; total <= limit {
			list = append(list, all[i].export())
		} else if email == "" {
			return len(all), list
		}
	}
	return total, list
}

// serveList writes the last of a list that has the newest at its end.
func serveList[T any](w http.ResponseWriter, limit int, all []T) {
	slices.Reverse(all)
	writeList(w, len(all), all[:min(limit, len(all))])
}

// writeList writes {"total":n,"results":[...]}.
func writeList[T any](w http.ResponseWriter, total int, list []T) {
	if list == nil {
		list = []T{}
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(map[string]any{"total": total, "results": list}) // an error means that the client has gone
}

// faultRequest is a Fault as JSON; durations are text such as "2s". contains stands for Match.
type faultRequest struct {
	Endpoint  string            `json:"endpoint"`
	Times     int               `json:"times"`
	Status    int               `json:"status"`
	Body      string            `json:"body"`
	Header    map[string]string `json:"header"`
	Delay     string            `json:"delay"`
	Apply     bool              `json:"apply"`
	ApplyLate string            `json:"applyLate"`
	Drop      bool              `json:"drop"`
	Contains  string            `json:"contains"`
}

func (s *Sandbox) postFault(w http.ResponseWriter, r *http.Request) {
	var in faultRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		http.Error(w, "fault: "+err.Error(), http.StatusBadRequest)
		return
	}
	f, err := in.fault()
	if err != nil {
		http.Error(w, "fault: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.Inject(f)
	w.WriteHeader(http.StatusNoContent)
}

func (in *faultRequest) fault() (Fault, error) {
	f := Fault{
		Endpoint: in.Endpoint, Times: in.Times, Status: in.Status, Body: in.Body, Header: in.Header, Apply: in.Apply, Drop: in.Drop,
	}
	if in.Times < 0 || in.Status != 0 && (in.Status < 200 || in.Status > 599) {
		return f, errors.New("times must not be negative, status must be 0 or from 200 to 599")
	}
	var err error
	if f.Delay, err = duration(in.Delay); err != nil {
		return f, err
	}
	if f.ApplyLate, err = duration(in.ApplyLate); err != nil {
		return f, err
	}
	if in.Contains != "" {
		f.Match = func(body []byte) bool { return bytes.Contains(body, []byte(in.Contains)) }
	}
	return f, nil
}

func duration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

// pageRows is how many of the newest contacts and events the page shows.
const pageRows = 20

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>HubSpot sandbox</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top}
td.n{text-align:right}code{font-size:13px}
</style></head><body><h1>HubSpot sandbox, hub {{.Hub}}</h1>
<p>JSON: <a href="/_sandbox/contacts?limit=100">contacts</a> · <a href="/_sandbox/events?limit=100">events</a> ·
<a href="/_sandbox/definitions">definitions</a> · <a href="/_sandbox/properties">properties</a> ·
<a href="/_sandbox/calls?limit=100">calls</a> · <a href="/_sandbox/counts">counts</a></p>
<h2>Calls</h2><table><tr><th>Operation<th>Status<th>Calls<th>Inputs</tr>
{{range .Counts}}<tr><td>{{.Endpoint}}<td>{{.Status}}<td class="n">{{.Calls}}<td class="n">{{.Inputs}}</tr>
{{else}}<tr><td colspan="4">none yet</tr>{{end}}</table>
<h2>Contacts: {{.ContactTotal}}</h2><table><tr><th>Id<th>Properties</tr>
{{range .Contacts}}<tr><td>{{.ID}}<td>{{range $k, $v := .Properties}}<code>{{$k}}={{$v}}</code> {{end}}</tr>
{{end}}</table>
<h2>Events: {{.EventTotal}}</h2><table><tr><th>Event<th>Contact<th>Properties</tr>
{{range .Events}}<tr><td>{{.EventName}}<td>{{.Email}} {{.ContactID}}<td>{{range $k, $v := .Properties}}<code>{{$k}}={{$v}}</code> {{end}}</tr>
{{end}}</table></body></html>
`))

func (s *Sandbox) servePage(w http.ResponseWriter) {
	data := struct {
		Hub                      string
		Counts                   []Count
		ContactTotal, EventTotal int
		Contacts                 []Contact
		Events                   []Event
	}{Hub: s.opts.HubID, Counts: s.Counts()}
	data.ContactTotal, data.Contacts = s.newestContacts(pageRows)
	data.EventTotal, data.Events = s.newestEvents(pageRows, "")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, data) // an error means that the client has gone
}
