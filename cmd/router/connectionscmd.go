package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/connections"
)

type connectionsCmd struct {
	List       connectionsListCmd `cmd:"" help:"List customers' accounts, with their hubs and states."`
	Link       connectionsLinkCmd `cmd:"" help:"Print an install link for an account."`
	Disconnect disconnectCmd      `cmd:"" help:"Revoke the tokens of an account at HubSpot, and erase them here."`
}

var errNoRunning = errors.New("no router runs: start it, for it has the accounts")

// connections is a call about connections to the router that runs.
func (f *routerFlags) connections(ctx context.Context, path string, c routerCall, answer any) error {
	cfg, err := f.load(path)
	if err != nil {
		return err
	}
	c.path = connections.APIPath + c.path
	err = f.call(ctx, cfg, c, answer)
	if err != nil && f.absent(err) {
		return errNoRunning
	}
	return err
}

type connectionsListCmd struct {
	configFlag
	routerFlags
	App     string `help:"Only those of this app."`
	Account string `help:"Only this account." placeholder:"ID"`
	JSON    bool   `help:"One JSON object per line."`
}

// Run implements the command.
func (c *connectionsListCmd) Run(ctx context.Context, s streams) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for after, first := "", true; first || after != ""; first = false {
		var page struct {
			Connections []connections.Connection `json:"connections"`
			Next        string                   `json:"next"`
		}
		q := url.Values{"limit": {"1000"}, "app": {c.App}, "account": {c.Account}, "after": {after}}
		if err := c.connections(ctx, c.Config, routerCall{path: "?" + q.Encode()}, &page); err != nil {
			return err
		}
		if first && len(page.Connections) == 0 && !c.JSON {
			fmt.Fprintln(s.out, "no accounts are connected")
			return nil
		}
		if first && !c.JSON {
			fmt.Fprintln(w, "APP\tACCOUNT\tHUB\tDOMAIN\tSTATUS\tSINCE\tLAST DELIVERY\tPROBLEM")
		}
		for i := range page.Connections {
			if err := writeConnection(w, s, &page.Connections[i], c.JSON); err != nil {
				return err
			}
		}
		after = page.Next
	}
	return w.Flush()
}

func writeConnection(w *tabwriter.Writer, s streams, c *connections.Connection, asJSON bool) error {
	if asJSON {
		data, err := json.Marshal(c)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s\n", data)
		return err
	}
	at := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	problem := cmp.Or(c.Reason, c.LastError)
	if len(c.AlsoConnected) > 0 && problem == "" {
		problem = "the hub is also connected by " + strings.Join(c.AlsoConnected, ", ")
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cell(c.App), cell(c.Account), cell(c.Hub), cell(cmp.Or(c.HubDomain, "-")), c.Status, at(c.Since), at(c.LastDelivery), cell(cmp.Or(problem, "-")))
	return err
}

type connectionsLinkCmd struct {
	configFlag
	routerFlags
	App       string `required:"" help:"The app."`
	Account   string `required:"" help:"The account, an id of your choosing." placeholder:"ID"`
	ReturnURL string `name:"return-url" help:"Where the browser goes at the end; one of the app's return_urls." placeholder:"URL"`
}

// Help is shown by router connections link --help.
func (connectionsLinkCmd) Help() string {
	return `Whoever opens the link before it expires may connect a HubSpot account of theirs: give it to the customer alone.`
}

// Run implements the command.
func (c *connectionsLinkCmd) Run(ctx context.Context, s streams) error {
	var answer struct {
		URL       string    `json:"url"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	body := map[string]string{"app": c.App, "account": c.Account, "return_url": c.ReturnURL}
	if err := c.connections(ctx, c.Config, routerCall{method: http.MethodPost, body: body}, &answer); err != nil {
		return err
	}
	fmt.Fprintln(s.out, answer.URL)
	fmt.Fprintf(s.err, "good until %s\n", answer.ExpiresAt.Format(time.RFC3339))
	return nil
}

type disconnectCmd struct {
	configFlag
	routerFlags
	App     string `required:"" help:"The app."`
	Account string `required:"" help:"The account." placeholder:"ID"`
	Yes     bool   `help:"Do not ask. Needed where nobody can be asked."`
}

// Help is shown by router connections disconnect --help.
func (disconnectCmd) Help() string {
	return `What waits for the account stays, for when it connects again. Where HubSpot can not be reached the tokens are erased here all the same, and the command says so.`
}

// Run implements the command.
func (c *disconnectCmd) Run(ctx context.Context, s streams) error {
	if !c.Yes {
		if err := confirmed(s, fmt.Sprintf("Disconnect account %s of app %s? [y/N] ", cell(c.Account), cell(c.App))); err != nil {
			return err
		}
	}
	var done connections.Disconnection
	q := url.Values{"app": {c.App}, "account": {c.Account}}
	if err := c.connections(ctx, c.Config, routerCall{method: http.MethodDelete, path: "?" + q.Encode(), patience: 2 * time.Minute}, &done); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "disconnected from hub %s\n", done.Hub)
	if done.Problem != "" {
		fmt.Fprintln(s.out, done.Problem)
	}
	if !done.Erased {
		fmt.Fprintln(s.out, "what is left of the encrypted tokens is in the data directory until it is written over, or until nobody else reads router.db")
	}
	return nil
}
