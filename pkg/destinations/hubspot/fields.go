package hubspot

import (
	"context"

	"github.com/tidwall/gjson"
)

// need is a property that the account lacks and that the policy makes: what the batch has for it.
type need struct {
	name, label string // HubSpot's, and the client's
	values      []gjson.Result
}

// needOption is options that a property lacks and that the policy makes, as clients wrote them.
type needOption struct {
	property *property
	options  []string
}

// provide makes what the batch needs in the account and the policy allows to make. changed says that s.schema is a newer one. An error is
// the outcome of the whole batch.
func (s *contactSend) provide(context.Context, []need, []needOption) (changed bool, err error) {
	return false, nil
}

// prepare takes out of the writes what must not be written: what if_empty finds not empty, and what a later event wrote already. It is called
// once for each write, before its first call; parts of a write that is taken apart are writes of their own. An error is the outcome of all of
// them.
func (s *contactSend) prepare(context.Context, []*write) error { return nil }

// remember is what a write leaves for the next one of its ID; nil leaves what is there.
func (s *contactSend) remember(*write) []byte { return nil }
