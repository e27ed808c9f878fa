package eventscache

import "slices"

// Forget drops the events of which names finds something in what is shown of them, and returns how many.
func (c *Cache) Forget(names func(text string) bool) (dropped int) {
	m := c.members.Load()
	for _, rings := range []map[string]*ring{m.apiKeys, m.destinations} {
		for _, r := range rings {
			dropped += r.forget(names)
		}
	}
	return dropped
}

func (r *ring) forget(names func(text string) bool) (dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = slices.DeleteFunc(r.entries, func(e *entry) bool {
		gone := slices.ContainsFunc([]string{string(e.original), e.malformed, string(e.success), e.skip, e.problem, e.id}, names)
		if gone {
			dropped++
			r.bytes -= e.size()
			if r.byOffset[e.offset] == e {
				delete(r.byOffset, e.offset)
			}
		}
		return gone
	})
	return dropped
}
