"""The life of a generative model, in order. Each stage is a folder named by its verb.

| #  | stage      | question that it answers                                    | makes             |
|----|------------|-------------------------------------------------------------|-------------------|
| 1  | `plan`     | what are we building, for whom, what counts as good         | Plan              |
| 2  | `collect`  | which data, from where, under which licence; cleaned, split | Dataset           |
| 3  | `pretrain` | which architecture, trained how; or which base              | Model             |
| 4  | `prompt`   | how far do instructions and examples get us                 | Prompt            |
| 5  | `finetune` | what does a task need                                       | Model             |
| 6  | `align`    | what do people prefer                                       | Model             |
| 7  | `evaluate` | is it good, better than the baseline, fair, safe            | Report            |
| 8  | `compress` | how small and fast can it get within a stated loss          | Model             |
| 9  | `deploy`   | how do people reach it, and how is it doing                 | Endpoint          |
| 10 | `deliver`  | how does its content reach its audience                     | Dataset           |
| 11 | `improve`  | what did use teach us                                       | Dataset or Report |

What `improve` makes is what `collect` makes: that closes the wheel.
"""
