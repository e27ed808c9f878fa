package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxControl bounds the body of a call that controls the sandbox.
	maxControl = 1 << 20
	// maxDelay bounds what a fault posted may delay: a slip of units would hang for years.
	maxDelay = time.Hour
)

// postedFault is a Fault as JSON.
type postedFault struct {
	ID          int               `json:"id,omitempty"` // given by the sandbox
	Endpoint    string            `json:"endpoint"`
	Times       int               `json:"times"` // 0: until cleared
	Left        *int              `json:"left,omitempty"`
	Status      int               `json:"status,omitempty"`
	Body        json.RawMessage   `json:"body,omitempty"` // text, or JSON as it is to be sent
	Headers     map[string]string `json:"headers,omitempty"`
	DelayMS     int64             `json:"delay_ms,omitempty"`
	Apply       bool              `json:"apply,omitempty"`
	ApplyLateMS int64             `json:"apply_late_ms,omitempty"`
	Drop        bool              `json:"drop,omitempty"`
	Contains    string            `json:"contains,omitempty"` // only calls whose body holds it
}

// fault checks the posted values.
func (in *postedFault) fault() (Fault, error) {
	f := Fault{
		Endpoint: in.Endpoint, Times: in.Times, Status: in.Status, Header: in.Headers, Apply: in.Apply, Drop: in.Drop, Contains: in.Contains,
		Delay: time.Duration(in.DelayMS) * time.Millisecond, ApplyLate: time.Duration(in.ApplyLateMS) * time.Millisecond,
	}
	most := maxDelay.Milliseconds()
	switch {
	case in.ID != 0 || in.Left != nil:
		return f, errors.New("id and left are given by the sandbox")
	case !isEndpoint(in.Endpoint):
		return f, fmt.Errorf("endpoint %.100q is none of: *, unknown, %s, or the first part of one", in.Endpoint, strings.Join(Endpoints(), ", "))
	case in.Times < 0:
		return f, errors.New("times must not be negative; 0 is until cleared")
	case in.Status != 0 && (in.Status < 200 || in.Status > 599):
		return f, errors.New("status must be from 200 to 599, or 0 for the true answer")
	case in.DelayMS < 0 || in.DelayMS > most || in.ApplyLateMS < 0 || in.ApplyLateMS > most:
		return f, fmt.Errorf("delay_ms and apply_late_ms must be from 0 to %d, one hour", most)
	case in.Drop && in.Status != 0:
		return f, errors.New("drop gives no answer, so it goes with no status")
	case in.Apply && in.ApplyLateMS > 0:
		return f, errors.New("apply writes at once and apply_late_ms later: give one of them")
	case in.Status == 0 && (len(in.Body) > 0 || len(in.Headers) > 0):
		return f, errors.New("body and headers go with a status")
	case in.Status == 0 && !in.Drop && in.DelayMS == 0 && in.ApplyLateMS == 0:
		return f, errors.New("the fault does nothing: give status, drop, delay_ms or apply_late_ms")
	}
	for name, value := range in.Headers {
		if !isHeader(name, value) {
			return f, fmt.Errorf("header %.100q can not be sent", name)
		}
	}
	f.Body = string(in.Body)
	var text string
	if json.Unmarshal(in.Body, &text) == nil {
		f.Body = text
	}
	return f, nil
}

// isHeader reports whether a header can stand in an answer.
func isHeader(name, value string) bool {
	for _, r := range name {
		if r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return name != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Endpoints are the names of all operations, as in Fault and Call.
func Endpoints() []string {
	var all []string
	for i := range routes {
		if !slices.Contains(all, routes[i].name) {
			all = append(all, routes[i].name)
		}
	}
	return all
}

// isEndpoint reports whether a fault with that endpoint can ever act.
func isEndpoint(name string) bool {
	return name == "" || name == "*" || name == "unknown" || slices.ContainsFunc(Endpoints(), func(e string) bool {
		return e == name || strings.HasPrefix(e, name+"/")
	})
}

// posted is the fault as JSON, for people and scripts to see.
func (f *fault) posted() postedFault {
	out := postedFault{
		ID: f.id, Endpoint: f.Endpoint, Times: f.Times, Status: f.Status, Headers: f.Header, DelayMS: f.Delay.Milliseconds(), Apply: f.Apply,
		ApplyLateMS: f.ApplyLate.Milliseconds(), Drop: f.Drop, Contains: f.Contains,
	}
	if f.Body != "" {
		out.Body, _ = json.Marshal(f.Body) // text always marshals
	}
	if f.left >= 0 {
		left := f.left
		out.Left = &left
	}
	return out
}

// listFaults returns the faults that act still, oldest first.
func (s *Sandbox) listFaults() []postedFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []postedFault{}
	for _, f := range s.faults {
		all = append(all, f.posted())
	}
	return all
}

func (s *Sandbox) postFault(w http.ResponseWriter, r *http.Request) {
	var in postedFault
	if !readControl(w, r, &in) {
		return
	}
	f, err := in.fault()
	if err != nil {
		refuseControl(w, err)
		return
	}
	writeView(w, http.StatusCreated, s.inject(f).posted())
}

// deleteFault removes the fault with that id; "" removes all.
func (s *Sandbox) deleteFault(w http.ResponseWriter, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool { return id == "" || strconv.Itoa(f.id) == id })
	if id != "" && len(s.faults) == before {
		http.Error(w, "no fault with that id acts", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readControl decodes a body; what is wrong with it is answered.
func readControl(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
	if err == nil {
		err = decodeControl(body, into)
	}
	if err != nil {
		refuseControl(w, err)
	}
	return err == nil
}

// decodeControl reads one JSON object strictly.
func decodeControl(body []byte, into any) error {
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '{' {
		return errors.New("the body must be a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind the JSON object")
	}
	return nil
}

// refuseControl answers 400 and says why.
func refuseControl(w http.ResponseWriter, err error) {
	http.Error(w, strings.TrimPrefix(err.Error(), "json: "), http.StatusBadRequest)
}

// writeView writes v as indented JSON.
func writeView(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic("BUG: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // an error means that the client has gone
}
