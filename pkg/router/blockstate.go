package router

import (
	"encoding/json"
	"strings"
	"time"

	"eventrouter/pkg/store"
)

// keptBlock is what is kept of a blocked lane, so that a restart does not make it look as if it had begun just now.
type keptBlock struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// began is since when people are told that the lane does not send.
func (s *stoppage) began() time.Time {
	if s.shown.IsZero() {
		return s.since
	}
	return s.shown
}

func blockKey(name store.LaneName) string {
	key, _ := json.Marshal([]string{name.Destination, name.Hub, name.Account, name.Lane}) // texts
	return "router/blocked/" + string(key)
}

// keepBlock keeps for the next run that the lane is blocked; nil: that it is not.
func (l *lane) keepBlock(s *stoppage) {
	var value []byte
	if s != nil {
		value, _ = json.Marshal(keptBlock{s.shown.UTC(), cut(s.err.Error(), 2000)}) // a time and a text
	}
	l.account.router.store.CacheStore(blockKey(l.live.name), value)
}

// storedBlock returns what an earlier run kept of a lane; nil where it was not blocked.
func storedBlock(st *store.Store, name store.LaneName) *keptBlock {
	name.Lane = strings.TrimSuffix(name.Lane, bulkSuffix)
	value, _, ok := st.CacheLoad(blockKey(name))
	var kept keptBlock
	if !ok || len(value) == 0 || json.Unmarshal(value, &kept) != nil || kept.Since.IsZero() {
		return nil
	}
	return &kept
}
