package main

import "xmig/jobs"

// The coordinator's verbs, as `xmig server` answers them.
const (
	verbSubmit = "submit" // submitRequest → jobs.Record
	verbCancel = "cancel" // cancelRequest → jobs.Record
)

type submitRequest struct {
	Spec jobs.Spec `json:"spec"`
}

type cancelRequest struct {
	Job string `json:"job"`
	By  string `json:"by"`
}

// The source node's verbs that the command line asks for.
const (
	verbCheckMove = "check-move" // node.CheckRequest → node.CheckReply
	verbInventory = "inventory"  // nothing → jobs.Host

	verbAccounts    = "accounts"     // nothing → []jobs.Account
	verbShadows     = "shadows"      // nothing → []jobs.KeptDisk
	verbPruneShadow = "prune-shadow" // node.PruneRequest → jobs.KeptDisk
	verbExamine     = "examine-host" // nothing → node.Examined
)
