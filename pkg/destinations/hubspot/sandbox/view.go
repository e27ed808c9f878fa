package sandbox

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// viewPath is where people and scripts look at what was received, and control the sandbox. It needs no token: a sandbox holds nothing
// real.
const viewPath = "/_sandbox"

func isView(path string) bool { return path == viewPath || strings.HasPrefix(path, viewPath+"/") }

// serveView answers
//
//	GET    /_sandbox                     pages for people, see pages.go
//	GET    /_sandbox/contacts?email=     JSON lists, newest first; ?limit=, 100 unless told
//	GET    /_sandbox/events?email=
//	GET    /_sandbox/definitions, /properties, /calls, /counts
//	GET    /_sandbox/calls?since=N       calls that were answered after the call numbered N, oldest first
//	POST   /_sandbox/faults              injects one, see postedFault
//	GET    /_sandbox/faults              those that act still
//	DELETE /_sandbox/faults[/ID]         ends one, or all
//	GET    /_sandbox/options             see optionsView
//	PATCH  /_sandbox/options             changes those given
//	POST   /_sandbox/reset               Reset; also DELETE /_sandbox
//	GET    /_sandbox/apps                OAuth apps, without secrets
//	POST   /_sandbox/apps                registers one, see App
//	GET    /_sandbox/hubs                accounts
//	POST   /_sandbox/hubs                adds one, or many: see postedHubs
//	DELETE /_sandbox/hubs/ID             RemoveHub
//	...    /_sandbox/hubs/ID/...         all of the above for that hub alone
//	GET    /_sandbox/installs            which app is in which hub, with what scopes
//	DELETE /_sandbox/installs/APP/HUB    Uninstall; also POST .../uninstall
//	POST   /_sandbox/installs/APP/HUB/expire, /revoke    ExpireAccess, RevokeRefresh; * is any
func (s *Sandbox) serveView(w http.ResponseWriter, r *http.Request) {
	// A page of another site must not make a browser on this machine change anything.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, viewPath), "/")
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case slices.Contains([]string{"apps", "hubs", "installs"}, first) && s.provider.top == s:
		s.serveProvider(w, r, name)
	case r.Method == http.MethodGet && (name == "" || first == "pages"):
		s.servePage(w, r, rest)
	case r.Method == http.MethodGet && name == "faults":
		list := s.listFaults()
		writeList(w, len(list), list)
	case r.Method == http.MethodGet && name == "options":
		o := s.Options()
		writeView(w, http.StatusOK, o.view())
	case r.Method == http.MethodGet:
		s.serveLists(w, r, name)
	case r.Method == http.MethodPost && name == "faults":
		s.postFault(w, r)
	case r.Method == http.MethodDelete && first == "faults":
		s.deleteFault(w, rest)
	case r.Method == http.MethodPatch && name == "options":
		s.patchOptions(w, r)
	case r.Method == http.MethodPost && name == "reset", r.Method == http.MethodDelete && name == "":
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// serveLists answers with a JSON list.
func (s *Sandbox) serveLists(w http.ResponseWriter, r *http.Request, name string) {
	q := r.URL.Query()
	limit, err := count(q.Get("limit"), 100)
	if err != nil {
		refuseControl(w, errors.New("limit "+err.Error()))
		return
	}
	switch name {
	case "contacts":
		if email := q.Get("email"); email != "" {
			var one []Contact
			if ct, ok := s.Contact(email); ok {
				one = []Contact{ct}
			}
			serveList(w, limit, one)
			return
		}
		total, newest := s.newestContacts(limit)
		writeList(w, total, newest)
	case "events":
		total, newest := s.newestEvents(limit, q.Get("email"))
		writeList(w, total, newest)
	case "definitions":
		serveList(w, limit, s.Definitions())
	case "properties":
		serveList(w, limit, s.Properties())
	case "calls":
		if !q.Has("since") {
			serveList(w, limit, s.Calls())
			return
		}
		since, err := count(q.Get("since"), 0)
		if err != nil {
			refuseControl(w, errors.New("since "+err.Error()))
			return
		}
		newer := s.callsSince(uint64(since))
		writeList(w, len(newer), newer[:min(limit, len(newer))])
	case "counts":
		serveList(w, limit, s.Counts())
	default:
		http.NotFound(w, r)
	}
}

// count reads a number of a query; otherwise stands for "".
func count(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, errors.New("must be a whole number from 0")
	}
	return n, nil
}

// callsSince returns the calls that were answered after the one with that number, oldest first; all that are kept when that one is not
// among them. Numbers are given on arrival, so a later answer may have a lower one.
func (s *Sandbox) callsSince(number uint64) []Call {
	calls := s.Calls()
	for i := len(calls) - 1; i >= 0; i-- {
		if calls[i].Number == number {
			return calls[i+1:]
		}
	}
	return calls
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
	writeView(w, http.StatusOK, map[string]any{"total": total, "results": list})
}
