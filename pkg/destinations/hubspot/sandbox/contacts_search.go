package sandbox

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Limits of search.
const (
	maxSearchLimit   = 200
	maxFilterGroups  = 5
	maxGroupFilters  = 6
	maxSearchResults = 10000
)

// searchContacts answers POST contacts/search with filters EQ, IN and HAS_PROPERTY; groups are alternatives. The index lags: a contact
// is not found until Options.Lag after it was made.
func (st *state) searchContacts(c *call) answer {
	groups := c.json.Get("filterGroups").Array()
	if len(groups) > maxFilterGroups {
		return st.fail(badInput("Too many filter groups; the limit is 5"))
	}
	for _, g := range groups {
		if e := checkFilters(g.Get("filters").Array()); e != nil {
			return st.fail(e)
		}
	}
	limit, after := 10, 0
	if l := c.json.Get("limit"); l.Exists() {
		limit = int(l.Int())
	}
	if v := c.json.Get("after").String(); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > maxSearchResults {
			return st.fail(badInput("after must be a whole number up to 10000"))
		}
		after = n
	}
	if limit < 1 || limit > maxSearchLimit {
		return st.fail(badInput("limit must be from 1 to 200"))
	}
	var found []*contact
	for _, ct := range st.contacts.all {
		if !ct.archived && !ct.created.at.Add(st.opts.Lag).After(st.now.at) && matchesAny(ct, groups) {
			found = append(found, ct)
		}
	}
	return st.answerSearch(found, after, limit, st.readNames(texts(c.json.Get("properties"))))
}

// listContacts answers GET contacts?limit=&after=&properties=: records by id, archived ones left out.
func (st *state) listContacts(c *call) answer {
	limit, after := 10, 0
	for name, to := range map[string]*int{"limit": &limit, "after": &after} {
		if v := c.query.Get(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return st.fail(badInput(name + " must be a whole number"))
			}
			*to = n
		}
	}
	if limit < 1 || limit > maxContacts {
		return st.fail(badInput("limit must be from 1 to 100"))
	}
	names, b, n, next := st.readNames(listed(c.query["properties"])), []byte(`{"results":[`), 0, ""
	for _, ct := range st.contacts.all[min(max(0, after-firstID+1), len(st.contacts.all)):] {
		if ct.archived {
			continue
		}
		if n == limit {
			b = append(b, `],"paging":{"next":{"after":"`+next+`"}}}`...)
			return answer{status: http.StatusOK, body: b}
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = append(st.appendRecord(b, ct, func(b []byte) []byte { return appendRead(b, ct, names) }), '}')
		next = ct.id
	}
	return answer{status: http.StatusOK, body: append(b, "]}"...)}
}

// answerSearch shows one page.
func (st *state) answerSearch(found []*contact, after, limit int, names []string) answer {
	b := append([]byte(nil), `{"total":`...)
	b = strconv.AppendInt(b, int64(len(found)), 10)
	b = append(b, `,"results":[`...)
	from := min(after, len(found))
	to := min(from+limit, len(found))
	for i, ct := range found[from:to] {
		if i > 0 {
			b = append(b, ',')
		}
		b = st.appendRecord(b, ct, func(b []byte) []byte { return appendRead(b, ct, names) })
		b = append(b, '}')
	}
	b = append(b, ']')
	if to < len(found) {
		b = append(b, `,"paging":{"next":{"after":"`...)
		b = strconv.AppendInt(b, int64(to), 10)
		b = append(b, `"}}`...)
	}
	return answer{status: http.StatusOK, body: append(b, '}')}
}

func checkFilters(filters []gjson.Result) *apiError {
	if len(filters) > maxGroupFilters {
		return badInput("Too many filters in a group; the limit is 6")
	}
	for _, f := range filters {
		switch f.Get("operator").Str {
		case "EQ", "IN", "HAS_PROPERTY":
		default:
			return badInput("The sandbox does not know the search operator " + f.Get("operator").Str)
		}
	}
	return nil
}

func matchesAny(ct *contact, groups []gjson.Result) bool {
	for _, g := range groups {
		if matchesAll(ct, g.Get("filters").Array()) {
			return true
		}
	}
	return len(groups) == 0
}

func matchesAll(ct *contact, filters []gjson.Result) bool {
	for _, f := range filters {
		name := f.Get("propertyName").Str
		has, ok := ct.computed(name)
		if !ok {
			has = ct.stored(name)
		}
		hit := false
		switch f.Get("operator").Str {
		case "EQ":
			hit = strings.EqualFold(has, f.Get("value").String())
		case "IN":
			for _, v := range f.Get("values").Array() {
				hit = hit || strings.EqualFold(has, v.String())
			}
		case "HAS_PROPERTY":
			hit = has != ""
		}
		if !hit || has == "" {
			return false
		}
	}
	return true
}
