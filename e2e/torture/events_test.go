package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// crowd chooses events for one client.
type crowd struct {
	rnd    *rand.Rand
	client string
	ledger *ledger
	ids    bool // events have ids of the client's
}

const (
	shared = 12 // persons of all clients
	own    = 4  // persons of each
)

// person chooses whose an event is.
func (c *crowd) person() string {
	if c.rnd.IntN(5) < 3 {
		return fmt.Sprintf("shared%d@torture.example", c.rnd.IntN(shared))
	}
	return fmt.Sprintf("%s%d@torture.example", c.client, c.rnd.IntN(own))
}

// next chooses an event and enters it into the ledger.
func (c *crowd) next(at time.Time) *entry {
	e := entry{Client: c.client, Kind: identify, Person: c.person(), At: at}
	switch n := c.rnd.IntN(100); {
	case n < 40:
		e.Kind = track
	case n < 43:
		e.Kind = noise
	case n < 44:
		e.Kind = stranger
	case n < 45:
		e.Kind = hopeless
	case n < 47:
		e.Kind = boom
	case n < 49:
		e.Kind = held
	case n < 50:
		e.Kind = rejected
	}
	return c.enter(e)
}

// enter completes an event.
func (c *crowd) enter(e entry) *entry {
	if e.Kind == identify || e.Kind == rejected || e.Kind == held {
		e.Props = []string{"seq"}
		for _, name := range []string{"plan", "tier"} {
			if c.rnd.IntN(2) == 0 {
				e.Props = append(e.Props, name)
			}
		}
	}
	p := c.ledger.post(e)
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	switch e.Kind {
	case hopeless:
		p.Person = fmt.Sprintf("nobody-%d", p.N)
	case stranger:
		p.Person = ""
	case rejected:
		p.Person = fmt.Sprintf("r%d@-bad.example", p.N)
	}
	if c.ids {
		p.ID = fmt.Sprintf("%s-%d", c.client, p.N)
	}
	return p
}

// json is the event as Jitsu's protocol has it.
func (e *entry) json() []byte {
	user := map[string]string{}
	if e.Person != "" {
		user["email"] = e.Person
	} else {
		user["anonymous_id"] = "anonymous-" + e.mark()
	}
	for _, name := range e.Props {
		user[name] = e.mark()
	}
	event := map[string]any{"event_type": e.eventType(), "user": user}
	if len(e.Props) == 0 {
		event["mark"] = e.mark()
	}
	if e.Kind == boom || e.Kind == held {
		event["boom"] = true
	}
	if e.ID != "" {
		event["event_id"] = e.ID
	}
	switch {
	case !e.At.IsZero():
		event["utc_time"] = e.At.Format(time.RFC3339Nano)
	case e.ID == "":
		event["utc_time"] = e.Sent.Format(time.RFC3339Nano) // beside the content the id of the copy that is sent again
	}
	data, err := json.Marshal(event)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return data
}

// eventType is event_type.
func (e *entry) eventType() string {
	switch e.Kind {
	case identify, hopeless, rejected, held:
		return "user_identify"
	case noise:
		return "noise"
	}
	return "step"
}
