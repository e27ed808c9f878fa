// Package e2e holds the tests of the whole: the built binary as a process, real SDKs from npm, a real browser, a real Prometheus. Only
// HubSpot is a double, the sandbox. install.sh installs what they need.
package e2e
