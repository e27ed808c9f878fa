package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// stories is how many failures are told whole.
const stories = 5

// fail says what is wrong with an event, and tells its story: the line of the ledger, what the router says, and the calls that carried it.
func (x *torture) fail(e *entry, format string, args ...any) {
	x.t.Helper()
	x.failures++
	text := fmt.Sprintf("event %d (%s of %s, by %s) %s", e.N, e.Kind, e.Person, e.Client, fmt.Sprintf(format, args...))
	if x.failures > stories {
		if x.failures < 100 {
			x.t.Error(text)
		}
		return
	}
	line, _ := json.Marshal(e)
	told := "(it has no id)"
	if e.ID != "" {
		_, told, _ = x.p.call(http.MethodGet, "/api/v1/events/explain?event_id="+url.QueryEscape(e.ID), "")
	}
	x.t.Errorf("seed %d: %s\nledger: %s\nthe router says: %s\ncalls that carried it:\n%s", x.seed, text, line, told, x.calls(e))
}

// calls are those whose body holds the event's mark, or its value of seq, which all writes have.
func (x *torture) calls(e *entry) string {
	f, err := os.Open(x.hub.path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var all []string
	needle := `"mark":"` + e.mark() + `"`
	if len(e.Props) > 0 {
		needle = `"seq":"` + e.mark() + `"`
	}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var c call
		if json.Unmarshal(line, &c) != nil {
			continue
		}
		if at := strings.Index(c.Body, needle); at >= 0 {
			all = append(all, fmt.Sprintf("  %s to %s %s: %d %.300s\n    …%s…", c.At.UTC().Format("15:04:05.000"), c.Done.UTC().Format("15:04:05.000"), c.Path, c.Status, c.Answer,
				c.Body[max(0, at-150):min(len(c.Body), at+150)]))
		}
	}
	return strings.Join(all, "\n")
}
