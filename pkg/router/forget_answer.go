package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/store"
)

// ForgetQuery names a person who is to be forgotten, by one id at least.
type ForgetQuery struct {
	Email       string `json:"email,omitempty"` // in any case of letters
	UserID      string `json:"user_id,omitempty"`
	AnonymousID string `json:"anonymous_id,omitempty"`
	APIKey      string `json:"api_key,omitempty"` // of UserID and AnonymousID; "": any API key's
	Account     string `json:"account,omitempty"` // likewise, of a customer's account of that API key; "": any, and none. An e-mail is one person's in all
	DryRun      bool   `json:"dry_run,omitempty"` // nothing is erased, only counted
}

// ids are those that a query names.
func (q *ForgetQuery) ids() (ids []store.PersonID, err error) {
	if email := strings.ToLower(strings.TrimSpace(q.Email)); email != "" {
		ids = append(ids, store.PersonID{Kind: store.KindEmail, Value: email})
	}
	if q.Account != "" && (q.APIKey == "" || q.Email != "") {
		return nil, ErrForgetAccount
	}
	for kind, value := range map[string]string{kindUser: q.UserID, kindAnonymous: q.AnonymousID} {
		if len(value) > maxIDBytes {
			return nil, fmt.Errorf("%s: ids have at most %d bytes", kind, maxIDBytes)
		}
		if value != "" {
			ids = append(ids, store.PersonID{Kind: kind, APIKey: scope(q.APIKey, q.Account), Value: value})
			if q.APIKey != "" && q.Account == "" { // in all accounts
				ids = append(ids, store.PersonID{Kind: kind, APIKey: store.AnyAccount(q.APIKey), Value: value})
			}
		}
	}
	if len(ids) == 0 {
		return nil, ErrForgetQuery
	}
	return ids, nil
}

// Forgotten says what was erased of a person, or would be.
type Forgotten struct {
	DryRun bool          `json:"dry_run"`
	IDs    []ForgottenID `json:"ids"` // all that are known of the person
	// Accounts are those of customers in which something was found, sorted.
	Accounts []string `json:"accounts,omitempty"`

	Waiting      int64 `json:"waiting"`       // entries of lanes, which are not delivered: skipped, for forgotten
	Unsorted     int64 `json:"unsorted"`      // the same of events that waited to be sorted
	Delivered    int64 `json:"delivered"`     // entries that were done, beside others that are not
	Logged       int64 `json:"logged"`        // events taken out of the logs, where no router ran to sort them
	DeadLetters  int64 `json:"dead_letters"`  //
	Outcomes     int64 `json:"outcomes"`      // what explain tells
	Identities   int64 `json:"identities"`    //
	Memories     int64 `json:"memories"`      // of which event wrote which property
	KnownKeys    int64 `json:"known_keys"`    // by which the router knew that a remote has the contact
	KV           int64 `json:"kv"`            // entries of $kv
	Holds        int64 `json:"holds"`         // of writes, after a call without an answer
	Masked       int64 `json:"masked"`        // errors and details of others that named the person
	RecentEvents int64 `json:"recent_events"` // of the events cache
	KeptAside    int64 `json:"kept_aside"`    // files with damaged data
	Pages        int64 `json:"pages"`         // of the database, cleaned of what stood between rows

	Mentioned  int64            `json:"mentioned"`  // dead letters of others that name the person: they stay
	Unreadable int64            `json:"unreadable"` // blocks and rows that are damaged: nobody can say whose they are
	Exports    []ForgottenFile  `json:"exports"`    // of dead letters, which the router can not reach
	Notes      []string         `json:"notes"`
	Took       float64          `json:"took_seconds"`
	ids        []store.PersonID //
}

// ForgottenID is one of a person's ids.
type ForgottenID struct {
	Kind    string `json:"kind"` // email, user_id, anonymous_id
	APIKey  string `json:"api_key,omitempty"`
	Account string `json:"account,omitempty"` // of the API key within which the id is known
	Value   string `json:"value"`
}

// ForgottenFile is an export that was made earlier.
type ForgottenFile struct {
	At      time.Time `json:"at"`
	Target  string    `json:"target"`
	Letters int64     `json:"letters"`
}

// ErrForgetAccount is for a query that names an account in which nothing can be told apart.
var ErrForgetAccount = errors.New("account goes with api_key, and with user_id or anonymous_id alone: an e-mail is forgotten in all accounts")

// ErrForgetQuery is for a query that names nobody.
var ErrForgetQuery = errors.New("name the person by an e-mail, a user id or an anonymous id")

// ForgetWait says what forgetting waits for. What is done is done; to ask again goes on with the rest.
type ForgetWait struct {
	For string
	Err error
}

func (w *ForgetWait) Error() string { return "not all is erased yet: waiting for " + w.For }

func (w *ForgetWait) Unwrap() error { return w.Err }

// in notes in whose account something was found.
func (f *Forgotten) in(account string) {
	if at, found := slices.BinarySearch(f.Accounts, account); !found && account != "" {
		f.Accounts = slices.Insert(f.Accounts, at, account)
	}
}

// tell completes the answer.
func (f *forgetting) tell(ctx context.Context) error {
	r := f.result
	for id := range f.person.all() {
		r.ids = append(r.ids, id)
		apiKey, account := id.Account()
		if id.APIKey != store.AnyAccount(apiKey) {
			r.IDs = append(r.IDs, ForgottenID{id.Kind, apiKey, account, id.Value})
			if !slices.Contains(f.named, id) { // else somebody has asked for it
				r.in(account)
			}
		}
	}
	slices.SortFunc(r.IDs, func(a, b ForgottenID) int {
		return strings.Compare(a.Kind+"\x00"+a.APIKey+"\x00"+a.Value, b.Kind+"\x00"+b.APIKey+"\x00"+b.Value)
	})
	exports, err := f.store.Exports(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("read earlier exports: %w", err)
	}
	for _, x := range exports {
		r.Exports = append(r.Exports, ForgottenFile{x.At, x.Target, x.Letters})
	}
	r.Notes = append(r.Notes, "HubSpot and other remotes keep what was delivered: delete the person there (HubSpot: POST /crm/v3/objects/contacts/gdpr-delete).")
	if len(exports) > 0 {
		r.Notes = append(r.Notes, "Dead letters were exported before: the router can not reach those files, look through them.")
	}
	if r.Mentioned > 0 {
		r.Notes = append(r.Notes, "Dead letters of others name the person in what they say: see router deadletters list.")
	}
	if r.Unreadable > 0 {
		r.Notes = append(r.Notes, "What is damaged could not be read: nobody can say whether the person is in it.")
	}
	return nil
}

// Names says whether a text, such as an event as JSON, names the person.
func (f *Forgotten) Names() func(text string) bool {
	p := newForgottenPerson(f.ids)
	return p.names
}
