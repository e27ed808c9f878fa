package main

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"eventrouter/pkg/store"
)

// lettersSummary is what filters find, counted.
type lettersSummary struct {
	Letters int64          `json:"letters"`
	Bytes   int64          `json:"bytes"`
	Oldest  *time.Time     `json:"oldest,omitempty"`
	Marked  int64          `json:"marked"`
	Groups  []lettersGroup `json:"groups"` // the most first
}

// lettersGroup is how many of them one destination has for one reason.
type lettersGroup struct {
	Destination string `json:"destination"`
	Reason      string `json:"reason"`
	Letters     int64  `json:"letters"`
	Marked      int64  `json:"marked"`
}

// summary answers GET /api/v1/deadletters/summary.
func (p *lettersPages) summary(ctx context.Context, r *http.Request) (any, error) {
	v := r.URL.Query()
	q, err := lettersQuery(v)
	if err != nil {
		return nil, err
	}
	if q.Marked, err = yes(v, "marked"); err != nil {
		return nil, err
	}
	return p.summarize(ctx, q)
}

func (p *lettersPages) summarize(ctx context.Context, q store.DeadLetterQuery) (sum lettersSummary, err error) {
	all, err := p.store.SummarizeDeadLetters(ctx, q)
	if err != nil {
		return sum, err
	}
	sum = lettersSummary{Letters: all.Letters, Bytes: all.Bytes, Marked: all.Marked, Groups: []lettersGroup{}}
	if !all.Oldest.IsZero() {
		at := all.Oldest.UTC()
		sum.Oldest = &at
	}
	groups, err := p.store.GroupDeadLetters(ctx, q)
	if err != nil {
		return sum, err
	}
	for _, g := range groups { // by day
		sum.group(lettersGroup{g.Destination, g.Reason, g.Letters, g.Marked})
	}
	sum.sort()
	return sum, nil
}

// group adds a group to the one of the same destination and reason.
func (s *lettersSummary) group(g lettersGroup) {
	i := slices.IndexFunc(s.Groups, func(of lettersGroup) bool { return of.Destination == g.Destination && of.Reason == g.Reason })
	if i < 0 {
		s.Groups = append(s.Groups, g)
		return
	}
	s.Groups[i].Letters += g.Letters
	s.Groups[i].Marked += g.Marked
}

func (s *lettersSummary) sort() {
	slices.SortStableFunc(s.Groups, func(a, b lettersGroup) int { return cmp.Compare(b.Letters, a.Letters) })
}
