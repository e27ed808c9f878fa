// Package sandbox is an HTTP handler that behaves like HubSpot's API, for tests, the demo and development without an account.
//
//	request ─▶ route ─▶ fault? ─▶ token ─▶ scope ─▶ quota ─▶ validation ─▶ one state under one mutex ─▶ answer
//
// It covers what a router of events needs: contacts, contact properties, custom events and their definitions, account information;
// with the error bodies, partial successes (207), limits, order of results and lags of the real one. Shapes follow recordings of real
// exchanges where there are some. What is not publicly known is modelled, and the comment at that place says "modelled"; where the
// choice matters an [Options] field changes it.
//
// Everything is kept in memory until [Sandbox.Reset]; of calls about the last 10,000 are kept, of writes to one contact about the last 1,000.
package sandbox
