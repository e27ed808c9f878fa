package router

// hubOf is the hub to which a plan goes, for one batch the same of all of an account: else what came first could be handed over last.
func (h *handover) hubOf(route *Route, name string) string {
	if route.Connection == "" {
		return route.Destination.Hub(name)
	}
	key := accountName{destination: route.Name, account: name}
	hub, ok := h.hubs[key]
	if !ok {
		hub = route.Destination.Hub(name)
		h.hubs[key] = hub
	}
	return hub
}

// connectedAccount returns the account of a route that delivers to accounts, and keeps it from being retired until the batch is committed.
func (h *handover) connectedAccount(route *Route, hub, name string) (*account, error) {
	key := accountName{route.Name, hub, name}
	if a := h.used[key]; a != nil {
		return a, nil
	}
	r := h.r
	if hub == "" {
		if !h.waits { // nobody who deletes lanes waits for something else meanwhile
			r.waitingUse.RLock()
			h.waits = true
		}
		if !r.waitFor(route, key) {
			return nil, &tooManyUnknownError{name, route.UnknownAccounts}
		}
		a, err := newAccount(r, route, hub, name)
		if err == nil {
			a.detached = true
			h.used[key] = a
		}
		return a, err
	}
	r.join(route, hub, name)
	a, err := r.useAccount(route, hub, name)
	if err == nil {
		h.used[key] = a
		r.begin([]*account{a})
	}
	return a, err
}

// useAccount returns an account that is not retired before release is called.
func (r *Router) useAccount(route *Route, hub, name string) (*account, error) {
	key := accountName{route.Name, hub, name}
	for {
		r.mu.Lock()
		a := r.accounts[key]
		if a != nil && a.route.epoch == route.epoch {
			a.users++
			a.uses++
			r.mu.Unlock()
			return a, nil
		}
		r.mu.Unlock()
		a, err := r.makeAccount(route, hub, name)
		if err != nil || a.detached {
			return a, err
		}
	}
}

// letGoOfAccounts ends the use of the accounts of a batch that was committed, or never will be.
func (h *handover) letGoOfAccounts() {
	defer func() {
		if h.waits {
			h.r.waitingUse.RUnlock()
			h.waits = false
		}
	}()
	if len(h.used) == 0 {
		return
	}
	r := h.r
	for key, a := range h.used {
		if a.detached && key.hub == "" {
			// It may have connected meanwhile, and the sorter may have moved what waited before this batch.
			if a.route.Destination.Hub(key.account) != "" {
				r.mu.Lock()
				r.noteWaitingLocked(key)
				r.mu.Unlock()
				r.Connected(a.route.Connection, key.account)
			}
			continue
		}
		r.mu.Lock()
		a.users--
		now := r.accounts[key]
		r.mu.Unlock()
		switch now {
		case a:
		case nil: // it ended while this batch was on its way; if it is connected to that hub, nobody may have seen the batch
			r.Connected(a.route.Connection, key.account)
		default: // it was made meanwhile
			now.lookAgain()
		}
	}
	clear(h.used)
}

// lookAgain has the account's lanes look into the store.
func (a *account) lookAgain() {
	for _, l := range a.lanes {
		for _, s := range l.streams() {
			if stored, ok := a.router.store.Lane(s.name); ok {
				s.id.Store(int64(stored.ID))
				a.mu.Lock()
				s.more = true
				s.announced++
				a.mu.Unlock()
			}
		}
		l.poke()
	}
}
