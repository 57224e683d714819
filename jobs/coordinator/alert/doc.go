// Package alert turns alerts of a monitoring system into acts on hosts: by
// rules that a person wrote, within limits that no rule can lift, each act with
// a reason that a person can read.
//
//	parse.go     a post becomes alerts: bounded, nothing in it is believed
//	rules.go     the file of rules
//	match.go     which rule an alert falls under, and which host it means: pure
//	fold.go      what a new message changes about an incident: pure
//	decide.go    what to do about all incidents now: pure
//	obstacles.go what stands against an act: pure
//	intake.go    takes posts in: stored before they are answered
//	keeper.go    does what was decided, on one server at a time
//	rehearse.go  what rules would have done about past alerts: pure
//
// # What holds after a crash
//
// An alert whose post was answered is an incident in the store, or no rule acts
// on it. An incident says what is about to be done before it is done; whoever
// reads "acting" gives the order again, and the fleet takes a second order for
// the first. Mutes are in the store too. Nothing else is kept: how long an alert
// has been firing counts from its first message.
//
// # What is never done
//
// The limits are looked at over all incidents and all hosts in one decision, and
// what one act takes is gone for the next. A host without the rule's tag is left
// alone. A drain is not cancelled because its alert is over, and a host that was
// cordoned stays so unless the rule says otherwise.
//
// # What it does not know
//
// HTTP, NATS, how a host is drained, one VM first or all at once,
// whether there is room (the fleet proves it).
package alert
