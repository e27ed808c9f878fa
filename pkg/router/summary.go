package router

import (
	"cmp"
	"slices"
)

// mostShown is how many lanes of connected accounts are listed of a destination, where nobody asks for one account: there may be thousands.
const mostShown = 100

// AccountsStatus sums up the lanes of a destination that delivers to accounts.
type AccountsStatus struct {
	Destination   string        `json:"destination"`
	Lanes         int           `json:"lanes"` // that there ever were
	Entries       int64         `json:"entries"`
	Bytes         int64         `json:"bytes"`
	OldestSeconds float64       `json:"oldest_seconds"`
	States        map[State]int `json:"states"`         // how many lanes with entries are in each
	Listed        int           `json:"listed"`         // how many stand among the lanes
	ListedEntries int64         `json:"listed_entries"` // and the entries of those
}

// Summary is Status for people and monitors: of destinations that deliver to accounts the lanes that do not flow, and those with most entries, 100 at most of each, and what all of them come to.
// account "" is all; else all lanes of that account.
func (r *Router) Summary(account string) (lanes []LaneStatus, accounts []AccountsStatus) {
	t := r.table.Load()
	return summary(r.Status(), account, func(destination string) bool {
		i := t.index(destination)
		return i >= 0 && t.routes[i].Connection != ""
	})
}

func summary(all []LaneStatus, account string, connected func(destination string) bool) (lanes []LaneStatus, accounts []AccountsStatus) {
	lanes = []LaneStatus{}
	var many []LaneStatus
	of := map[string]*AccountsStatus{}
	for i := range all {
		s := &all[i]
		if account != "" {
			if s.Name.Account == account {
				lanes = append(lanes, *s)
			}
			continue
		}
		if !connected(s.Name.Destination) || s.Name.Account == "" {
			lanes = append(lanes, *s)
			continue
		}
		sum := of[s.Name.Destination]
		if sum == nil {
			sum = &AccountsStatus{Destination: s.Name.Destination, States: map[State]int{}}
			of[s.Name.Destination] = sum
		}
		sum.Lanes++
		sum.Entries += s.Entries
		sum.Bytes += s.Bytes
		sum.OldestSeconds = max(sum.OldestSeconds, s.OldestSeconds)
		if s.Entries > 0 {
			sum.States[s.State]++
			many = append(many, *s)
		}
	}
	slices.SortStableFunc(many, func(a, b LaneStatus) int {
		if a, b := a.State == Flowing, b.State == Flowing; a != b {
			if b {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Entries, a.Entries)
	})
	for i := range many {
		if sum := of[many[i].Name.Destination]; sum.Listed < mostShown {
			sum.Listed++
			sum.ListedEntries += many[i].Entries
			lanes = append(lanes, many[i])
		}
	}
	for _, sum := range of {
		accounts = append(accounts, *sum)
	}
	slices.SortFunc(accounts, func(a, b AccountsStatus) int { return cmp.Compare(a.Destination, b.Destination) })
	return lanes, accounts
}

// withoutAccounts parts lanes into those of which metrics have a series each, and what the others come to.
func (r *Router) withoutAccounts(all []LaneStatus) (single []LaneStatus, accounts []AccountsStatus) {
	t := r.table.Load()
	if !t.connected {
		return all, nil
	}
	of := func(destination string) bool {
		i := t.index(destination)
		return i >= 0 && t.routes[i].Connection != ""
	}
	_, accounts = summary(all, "", of)
	single = slices.DeleteFunc(all, func(s LaneStatus) bool { return of(s.Name.Destination) && s.Name.Account != "" })
	for _, route := range t.routes { // one without lanes, too
		if route.Connection != "" && !slices.ContainsFunc(accounts, func(a AccountsStatus) bool { return a.Destination == route.Name }) {
			accounts = append(accounts, AccountsStatus{Destination: route.Name})
		}
	}
	return single, accounts
}
