"""Mazes written by hand, as maze-dataset writes them."""

from __future__ import annotations

TEXT = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; (1,1) <--> (1,2) ; (1,0) <--> (1,1) ; (2,2) <--> (1,2) ; "
    "<ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (2,2) <TARGET_END> "
    "<PATH_START> (0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>"
)
SHORT = (
    "<ADJLIST_START> (2,0) <--> (1,0) ; (2,0) <--> (2,1) ; <ADJLIST_END> <ORIGIN_START> (1,0) <ORIGIN_END> "
    "<TARGET_START> (2,0) <TARGET_END> <PATH_START> (1,0) (2,0) <PATH_END>"
)
LONG = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (0,2) ; (0,2) <--> (1,2) ; (1,2) <--> (1,1) ; (1,1) <--> (1,0) ; "
    "(1,0) <--> (2,0) ; (2,0) <--> (2,1) ; (2,1) <--> (2,2) ; <ADJLIST_END> <ORIGIN_START> (2,2) <ORIGIN_END> "
    "<TARGET_START> (0,0) <TARGET_END> "
    "<PATH_START> (2,2) (2,1) (2,0) (1,0) (1,1) (1,2) (0,2) (0,1) (0,0) <PATH_END>"
)
