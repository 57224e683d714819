// Package api is the coordinator's HTTP side: what the bus's verbs do, for
// those who have no bus; the webhooks that alerts come in by; events as they
// happen; and one page to look at.
//
//	control.go  what can be asked for: the same functions answer the bus
//	routes.go   the one list of paths: method, role, what goes in and out
//	handler.go  from a request to its route: bounds, who asks, answers, errors
//	access.go   clients and their roles: tokens and certificates
//	serve.go    the listener
//	stream.go   events as a stream (SSE)
//	overview.go hosts, jobs and progress in one small answer, for the page
//	openapi.go  the document of the routes, made of the list and of Go types
//	page.go     the page
//
// Everything that it answers is a value of packages jobs, coordinator or alert
// under its JSON names, as `-o json` prints it. Unknown fields in a request are
// errors. A request body has at most 1 MiB, whoever sends it.
//
// # Who may ask
//
// With clients configured everybody needs a token or a certificate, and a role.
// Without, only this machine is answered, and it may only look.
//
// # What holds after a crash
//
// Nothing is kept here. An answer is sent after what it says is stored.
//
// # What it does not know
//
// NATS, how a host is drained, rules.
package api
