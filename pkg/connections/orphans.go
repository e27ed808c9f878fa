package connections

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"eventrouter/pkg/config"
	"eventrouter/pkg/store"
)

// Orphan is an app that is not in the configuration, as after it got another name there, and has connections all the same.
type Orphan struct {
	App      string
	Accounts int // that are connected, or have to connect anew
}

// String says what it is and what to do.
func (o Orphan) String() string {
	return fmt.Sprintf("%d accounts are connected by the app %s, which is not in the configuration: they get nothing. Connections go by the name of the app: give it that name again, or have the accounts "+
		"connect anew, and disconnect these (router connections list --app %s)", o.Accounts, o.App, o.App)
}

func (o Orphan) log(to *slog.Logger) {
	to.Warn(o.String(), "app", o.App, "accounts", o.Accounts)
}

// Orphans are the apps that have connections and are not in the configuration, in order. Their tokens are kept.
func (s *Service) Orphans() []Orphan {
	count := map[string]int{}
	s.mu.RLock()
	for _, a := range s.accounts {
		if s.apps[a.id.app] == nil && a.hubName() != "" {
			count[a.id.app]++
		}
	}
	s.mu.RUnlock()
	return orphans(count)
}

// OrphansIn are those of a store, with the apps of a configuration.
func OrphansIn(st *store.Store, apps []config.App) []Orphan {
	stored, _ := st.Connections() // what can not be opened is in it all the same
	count := map[string]int{}
	for i := range stored {
		if name := stored[i].App; !slices.ContainsFunc(apps, func(a config.App) bool { return a.Name == name }) {
			count[name]++
		}
	}
	return orphans(count)
}

func orphans(count map[string]int) []Orphan {
	all := make([]Orphan, 0, len(count))
	for _, app := range slices.Sorted(maps.Keys(count)) {
		all = append(all, Orphan{app, count[app]})
	}
	return all
}
