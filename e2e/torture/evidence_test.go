package torture

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/router"
)

// evidence is what is known in the end.
type evidence struct {
	events  map[string][]sandbox.Event  // by mark
	letters map[string]letter           // by event id
	mended  map[string]bool             // by mark: contacts whose address the transform mended
	told    map[string][]router.Receipt // by event id
}

// evidence gathers what is known.
func (x *torture) evidence() *evidence {
	v := &evidence{events: map[string][]sandbox.Event{}, letters: map[string]letter{}, mended: map[string]bool{}, told: map[string][]router.Receipt{}}
	for _, d := range x.letters() {
		v.letters[d.EventID] = d
	}
	for _, c := range x.hub.Contacts() {
		v.mended[c.Properties["seq"]] = strings.HasSuffix(c.Properties["email"], "@mended.example")
	}
	uuids := map[string]string{}
	for _, ev := range x.hub.Events() {
		mark := ev.Properties["mark"]
		v.events[mark] = append(v.events[mark], ev)
		if other, ok := uuids[ev.UUID]; ok || ev.UUID == "" {
			x.t.Errorf("uuid %q of event %s is that of %s, too", ev.UUID, mark, other)
		}
		uuids[ev.UUID] = mark
	}
	x.question(v, func(e *entry) string {
		if e.Person == "" || e.Kind == rejected { // the mended transform gives it another person
			return ""
		}
		return "person=" + url.QueryEscape(e.Person) + "&limit=10000"
	})
	single := 0
	x.question(v, func(e *entry) string { // whom no person leads to; to ask for each one takes too long after a long run
		if e.ID == "" || byOthers(e, v) != "" && single >= mostSingle || slices.ContainsFunc(v.told[e.ID], func(r router.Receipt) bool { return r.State != router.ReceiptDuplicate }) {
			return ""
		}
		single++
		return "event_id=" + url.QueryEscape(e.ID)
	})
	return v
}

// mostSingle is how many events are asked for by their ids where others than the router's outcomes tell what became of them.
const mostSingle = 150

// byOthers is what became of an event as the list of dead letters says, or what is in the sandbox; "" when they can not.
func byOthers(e *entry, v *evidence) string {
	_, dead := v.letters[e.ID]
	switch {
	case dead:
		return "dead_letter"
	case e.Kind == rejected && v.mended[e.mark()]:
		return "delivered"
	}
	return ""
}

// question asks the router what became of events: of each what the question says, each question once, some at a time.
func (x *torture) question(v *evidence, question func(*entry) string) {
	asked := map[string]bool{"": true}
	var questions []string
	for _, e := range x.ledger.all() {
		if q := question(e); !asked[q] {
			asked[q] = true
			questions = append(questions, q)
		}
	}
	var mu sync.Mutex // guards v
	var all errgroup.Group
	all.SetLimit(4)
	for _, q := range questions {
		all.Go(func() error {
			told := x.explain(q)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range told.Receipts {
				v.told[r.EventID] = append(v.told[r.EventID], r)
			}
			return nil
		})
	}
	_ = all.Wait()
}

func (x *torture) explain(question string) (told router.Explanation) {
	status, body, err := x.p.call(http.MethodGet, "/api/v1/events/explain?"+question, "")
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal([]byte(body), &told)
	}
	if err != nil || status != http.StatusOK {
		x.t.Errorf("explain %s: %d %.200s %v", question, status, body, err)
	}
	return told
}

// letter is a dead letter as the router lists it.
type letter struct {
	ID        int64
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	Person    string
	Reason    string
	Error     string
}

// letters are all dead letters.
func (x *torture) letters() (all []letter) {
	for cursor := ""; ; {
		var page struct {
			DeadLetters []letter `json:"dead_letters"`
			Next        json.RawMessage
		}
		if err := json.Unmarshal([]byte(x.ask(http.MethodGet, "/api/v1/deadletters?limit=10000"+cursor, "")), &page); err != nil {
			x.t.Fatal(err)
		}
		all = append(all, page.DeadLetters...)
		if len(page.Next) == 0 {
			return all
		}
		cursor = "&cursor=" + url.QueryEscape(strings.Trim(string(page.Next), `"`))
	}
}
