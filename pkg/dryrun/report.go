package dryrun

import (
	"encoding/json"
	"time"

	"eventrouter/pkg/store"
)

// Report tells what would become of events, in the order in which they were played.
type Report struct {
	Events []Event `json:"events"`
	// Destinations are those that were played through, whether they got anything or not.
	Destinations []Destination `json:"destinations"`
	// Requests are those that would leave, in order, but for reads of the account's schema: whether these are made depends on what is remembered of it.
	Requests []Request `json:"requests"`
	// LeftOut says what the events were taken without: messages of a batch that are none. Whoever read the batch fills it in.
	LeftOut []string `json:"left_out,omitempty"`
}

// Destination is what holds for all events of one destination.
type Destination struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Staged bool   `json:"staged,omitempty"`
	// Schema says which schema of the remote account the simulation goes by.
	Schema string `json:"schema,omitempty"`
	// Notes are what a person should know of how far the simulation can be trusted.
	Notes []string `json:"notes,omitempty"`
}

// Event is one event with what would become of it.
type Event struct {
	ID       string    `json:"event_id"`
	Type     string    `json:"event_type,omitempty"`
	APIKey   string    `json:"api_key"`
	Received time.Time `json:"received"`
	// Email is what the identity memory supplies.
	Email string `json:"remembered_email,omitempty"`
	// Duplicate: the API key has sent the id before, so that the router would drop the event. It is played all the same.
	Duplicate    bool     `json:"duplicate,omitempty"`
	Destinations []Result `json:"destinations"`
}

// Result is what one destination would make of one event.
type Result struct {
	Destination string `json:"destination"`
	Staged      bool   `json:"staged,omitempty"`
	// NotFed says why the destination would not get the event at all; "" when it does.
	NotFed  string   `json:"not_fed,omitempty"`
	Logs    []Line   `json:"logs,omitempty"`
	Outputs []Output `json:"outputs,omitempty"`
}

// Line is what a script printed.
type Line struct {
	Level string `json:"level"`
	Text  string `json:"text"`
}

// Statuses of outputs and deliveries beside those of outcomes.
const (
	Retry   store.Status = "retry"   // it would be tried again later
	Blocked store.Status = "blocked" // its lane could deliver nothing
	Known   store.Status = "known"   // there is nothing to send: a contact that the router has made before
	NotSent store.Status = "planned" // it can not be simulated
)

// Output is one event that comes out of the destination's transform, or the event itself.
type Output struct {
	Index int    `json:"index"`
	ID    string `json:"event_id"`
	// Event is the output as the destination would get it; Changed says that it is not as it came.
	Event   json.RawMessage `json:"event,omitempty"`
	Changed bool            `json:"changed,omitempty"`
	// Status says what would become of it, and Reason why.
	Status store.Status `json:"status"`
	Reason string       `json:"reason,omitempty"`
	Error  string       `json:"error,omitempty"`
	// Unidentified: it would be otherwise if one knew whose event it is.
	Unidentified bool       `json:"unidentified,omitempty"`
	Deliveries   []Delivery `json:"deliveries,omitempty"`
}

// Delivery is one lane entry of an output.
type Delivery struct {
	Lane    string       `json:"lane"`
	Account string       `json:"account,omitempty"`
	Person  string       `json:"person,omitempty"` // its key
	Status  store.Status `json:"status"`
	Reason  string       `json:"reason,omitempty"`
	Error   string       `json:"error,omitempty"`
	// Detail is as explain shows it, with the values before and after.
	Detail json.RawMessage `json:"detail,omitempty"`
	// Requests are the numbers of those that the call took.
	Requests []int `json:"requests,omitempty"`
}

// Request is one that would leave.
type Request struct {
	Number      int      `json:"number"` // from 1
	Destination string   `json:"destination"`
	Lane        string   `json:"lane"`
	Events      []int    `json:"events"` // places in Report.Events of those that its call was for
	Method      string   `json:"method"`
	URL         string   `json:"url"`
	ContentType string   `json:"content_type,omitempty"`
	Headers     []Header `json:"headers,omitempty"` // sorted by name; secret ones are ***
	// Body is the JSON that is sent; Text the body where that is something else.
	Body json.RawMessage `json:"body,omitempty"`
	Text string          `json:"text,omitempty"`
	// Status is the stand-in's; Answer says why it refuses.
	Status int    `json:"status"`
	Answer string `json:"answer,omitempty"`
}

// Header is one header of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// DeadLetters is how many outputs would become dead letters.
func (r *Report) DeadLetters() (n int) {
	for i := range r.Events {
		for j := range r.Events[i].Destinations {
			for k := range r.Events[i].Destinations[j].Outputs {
				if r.Events[i].Destinations[j].Outputs[k].Status == store.Dead {
					n++
				}
			}
		}
	}
	return n
}
