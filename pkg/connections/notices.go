package connections

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// NoticeType is the event_type of the events that tell of changes.
const NoticeType = "connection_changed"

// noticeEvent is such an event.
type noticeEvent struct {
	EventType string    `json:"event_type"`
	EventID   string    `json:"event_id"`
	Timestamp time.Time `json:"_timestamp"`
	App       string    `json:"app"`
	Account   string    `json:"account"`
	Hub       string    `json:"hub"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason,omitempty"`
}

// notice is what is written with a change: nothing where nobody is to be told.
func (s *Service) notice(c *Change) []store.ConnectionNotice {
	ap := s.app(c.App)
	if ap == nil || ap.cfg.Notify == "" || s.opts.Append == nil {
		return nil
	}
	return []store.ConnectionNotice{{App: c.App, Account: c.Account, Hub: c.Hub, Status: string(c.Status), Reason: c.Reason, At: c.At}}
}

const noticesAtOnce = 100

// sendNotices puts notices into the log as events that only the destination of `notify` takes, until ctx ends. A notice is forgotten when the log has it: after a crash between
// the two it comes once more, under the same id, by which the router drops it.
func (s *Service) sendNotices(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		notices, err := s.opts.Store.ConnectionNotices(noticesAtOnce)
		if err == nil && len(notices) > 0 {
			err = s.sendSome(ctx, notices)
		}
		var again <-chan time.Time
		switch {
		case err != nil && ctx.Err() == nil:
			s.opts.Logger.Warn("changes of connections are told later", "error", err.Error())
			again = time.After(pause)
			pause = min(2*pause, longestPause)
		case len(notices) == noticesAtOnce:
			pause = firstPause
			continue
		default:
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-s.wake:
		}
	}
}

func (s *Service) sendSome(ctx context.Context, notices []store.ConnectionNotice) error {
	recs := make([][]byte, len(notices))
	for i := range notices {
		recs[i] = noticeRecord(&notices[i])
	}
	if err := s.opts.Append(recs...); err != nil {
		return err
	}
	for i := range notices {
		s.metrics.notices.WithLabelValues(notices[i].App).Inc()
	}
	return s.opts.Store.ConnectionNoticesDone(ctx, notices[len(notices)-1].ID)
}

func noticeRecord(n *store.ConnectionNotice) []byte {
	eventID := "connection-" + strconv.FormatInt(n.ID, 10) + "-" + strconv.FormatInt(n.At.UnixMilli(), 10)
	data, _ := json.Marshal(noticeEvent{NoticeType, eventID, n.At.UTC(), n.App, n.Account, n.Hub, n.Status, n.Reason}) // of strings and a time: can not fail
	ev := event.Event{ID: eventID, APIKey: event.NoticeKey(n.App), Received: n.At.UTC().Truncate(time.Microsecond), Server: true, Source: "router", JSON: data}
	return ev.AppendTo(nil)
}
