package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/store"
)

// letterFilter chooses dead letters: those that have all of what it says. It is the same on the command line, in addresses and in bodies of the admin API.
type letterFilter struct {
	IDs         []int64 `json:"ids,omitempty"`
	Destination string  `json:"destination,omitempty"`
	Hub         string  `json:"hub,omitempty"`
	Account     string  `json:"account,omitempty"`
	Lane        string  `json:"lane,omitempty"`
	APIKey      string  `json:"api_key,omitempty"`
	Reason      string  `json:"reason,omitempty"`
	EventID     string  `json:"event_id,omitempty"`
	EventType   string  `json:"event_type,omitempty"`
	Person      string  `json:"person,omitempty"`
	Since       string  `json:"since,omitempty"` // RFC 3339, a date, or how long ago; likewise Until
	Until       string  `json:"until,omitempty"`
}

// letterReasons are all reasons of dead letters.
var letterReasons = []string{"rejected", "account", "filter", "transform", "plan", "retries", "lane_full", "unknown_account", "panic", "poison", "record", "damaged", "parked"}

// maxLetterIDs bounds the ids of one request.
const maxLetterIDs = 1000

type filterText struct {
	name  string
	value *string
}

// texts are the members that are texts, in the order in which they are told.
func (f *letterFilter) texts() []filterText {
	return []filterText{
		{"destination", &f.Destination},
		{"hub", &f.Hub},
		{"account", &f.Account},
		{"lane", &f.Lane},
		{"api_key", &f.APIKey},
		{"reason", &f.Reason},
		{"event_id", &f.EventID},
		{"event_type", &f.EventType},
		{"person", &f.Person},
		{"since", &f.Since},
		{"until", &f.Until},
	}
}

// isEmpty says whether f chooses all.
func (f *letterFilter) isEmpty() bool {
	return len(f.IDs) == 0 && !slices.ContainsFunc(f.texts(), func(t filterText) bool { return *t.value != "" })
}

// values are f as parameters of an address.
func (f *letterFilter) values() url.Values {
	v := url.Values{}
	for _, id := range f.IDs {
		v.Add("id", strconv.FormatInt(id, 10))
	}
	for _, t := range f.texts() {
		if *t.value != "" {
			v.Set(t.name, *t.value)
		}
	}
	return v
}

// read takes parameters of an address.
func (f *letterFilter) read(v url.Values) error {
	for _, list := range v["id"] {
		for text := range strings.SplitSeq(list, ",") {
			id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil {
				return fmt.Errorf("id must be the number of a dead letter, not %.40q", text)
			}
			f.IDs = append(f.IDs, id)
		}
	}
	for _, t := range f.texts() {
		*t.value = v.Get(t.name)
	}
	return nil
}

// query is what the store is asked for.
func (f *letterFilter) query(now time.Time) (q store.DeadLetterQuery, err error) {
	if len(f.IDs) > maxLetterIDs {
		return q, fmt.Errorf("at most %d ids at a time", maxLetterIDs)
	}
	if f.Reason != "" && !slices.Contains(letterReasons, f.Reason) {
		return q, fmt.Errorf("reason must be one of %s, not %.40q", strings.Join(letterReasons, ", "), f.Reason)
	}
	q = store.DeadLetterQuery{
		IDs: f.IDs, Destination: f.Destination, Hub: f.Hub, Account: f.Account, Lane: f.Lane, APIKey: f.APIKey, Reason: f.Reason,
		EventID: f.EventID, EventType: f.EventType, Person: f.Person,
	}
	if q.Since, err = moment(f.Since, now); err != nil {
		return q, fmt.Errorf("since: %w", err)
	}
	if q.Until, err = moment(f.Until, now); err != nil {
		return q, fmt.Errorf("until: %w", err)
	}
	return q, nil
}

// words are f for people, without persons: what is noted of an export outlives who is forgotten.
func (f *letterFilter) words() string {
	var words []string
	if len(f.IDs) > 0 {
		words = append(words, count(len(f.IDs), "id"))
	}
	for _, t := range f.texts() {
		switch {
		case *t.value == "":
		case t.name == "person" || t.name == "event_id":
			words = append(words, "one "+t.name)
		default:
			words = append(words, t.name+"="+*t.value)
		}
	}
	if len(words) == 0 {
		return "all"
	}
	return strings.Join(words, " ")
}

var errMoment = errors.New("write a time such as 2026-11-21T12:00:00Z, a date, or how long ago, such as 24h or 7d")

// moment reads a time, a date (its beginning, UTC) or a time back from now; "" is the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return time.Time{}, errMoment
		}
		return now.UTC().AddDate(0, 0, -int(n)), nil
	}
	back, err := time.ParseDuration(text)
	if err != nil || back < 0 {
		return time.Time{}, errMoment
	}
	return now.UTC().Add(-back), nil
}
