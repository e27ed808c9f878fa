package destinations

import "errors"

// Cause is why something is not delivered, in a word of a closed list: people of a customer's account are told it, who see no errors.
type Cause string

// Causes.
const (
	CausePermission  Cause = "permission"  // the account's people have not granted what is needed, or its plan does not have it
	CauseLimit       Cause = "limit"       // the account's calls are used up for now
	CauseUnavailable Cause = "unavailable" // the remote can not be reached, or does not answer
	CauseRefused     Cause = "refused"     // the remote did not take an event, which is a dead letter now
	CauseOther       Cause = "other"       // what those who run the router can see
)

// CauseOf says why err is. An error knows by a method Cause() Cause, or is made by Unavailable.
func CauseOf(err error) Cause {
	if known, ok := errors.AsType[interface {
		error
		Cause() Cause
	}](err); ok {
		return known.Cause()
	}
	if IsUnavailable(err) {
		return CauseUnavailable
	}
	return CauseOther
}
