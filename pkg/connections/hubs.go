package connections

import (
	"maps"
	"slices"
	"strings"
)

// hub is what the accounts that are connected to one have in common.
type hub struct {
	accounts map[*account]bool
	// turn is held by who refreshes: the accounts may have one refresh token, which HubSpot may replace. It is of capacity 1, and goes before an account's.
	turn chan struct{}
}

func newHub() *hub { return &hub{map[*account]bool{}, make(chan struct{}, 1)} }

// indexHub notes that an account has another hub. No account's lock is held.
func (s *Service) indexHub(a *account, was, is string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.byHub[id{a.id.app, was}]; h != nil {
		delete(h.accounts, a)
		if len(h.accounts) == 0 {
			delete(s.byHub, id{a.id.app, was})
		}
	}
	if is == "" {
		return
	}
	key := id{a.id.app, is}
	if s.byHub[key] == nil {
		s.byHub[key] = newHub()
	}
	s.byHub[key].accounts[a] = true
}

// hub finds one that some account is connected to; nil: none is.
func (s *Service) hub(app, name string) *hub {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHub[id{app, name}]
}

// ofHub are the accounts of an app that are connected to a hub, in order.
func (s *Service) ofHub(app, hub string) []*account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.byHub[id{app, hub}]
	if h == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(h.accounts), func(a, b *account) int { return strings.Compare(a.id.account, b.id.account) })
}
