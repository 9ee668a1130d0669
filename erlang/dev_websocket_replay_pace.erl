%%% @doc The pace of slot replays: how many readers work at once, and when they rest.
%%%
%%% One process of the VM (`file_server_2') does all work on files, first come, first served.
%%% A low priority of the readers therefore does not help a node that computes: each of its
%%% accesses waits for one of every reader. So the readers have two paces.
%%%
%%% | others use the files | readers at once | rest |
%%% |---|---|---|
%%% | no | as many as there may be | 20 ms after 250 ms, to look |
%%% | yes | one | after each turn, so that turns take two fifths of the time |
%%%
%%% Only while no reader works does the work of that process show the use of others. One look
%%% shows that they have come. They are gone when a whole second of looks shows little work,
%%% because the probes of this device come in bursts. A store without files is never in use.
%%%
%%% The functions are pure: callers give the time, and a function that counts the work.
-module(dev_websocket_replay_pace).
-export([new/0, next/4, ended/3, work/0]).

%% Per cent of the time that readers work beside others.
-define(SHARE, 40).
%% A turn counts for at most this time, in milliseconds, because a store may hang.
-define(LONGEST_TURN, 5_000).
%% Time of looks without use of others after which there are none, in milliseconds.
-define(QUIET, 1_000).
%% Time of reading after which readers rest, and the time of that rest, in milliseconds.
-define(STRETCH, 250).
-define(GLANCE, 20).
%% Shortest time that shows the use of others, and longest pause between two looks.
-define(SHORTEST_LOOK, 5).
-define(LONGEST_LOOK, 100).
%% Reductions of that process in a millisecond that count as use. An access takes 25 to 60. A
%% node that computes makes 60 to 300 in a millisecond, 400 probes of the cache in a second 20.
-define(USE, 25).

%% `others': the time of looks beside others, and the work in it, or none. `rest': readers rest
%% until then. `began': since when readers work without a look. `look': the begin of a time
%% without readers, and the work until then.
-type pace() :: #{
    others := none | {non_neg_integer(), non_neg_integer()},
    rest := none | integer(),
    began := none | integer(),
    look := none | {integer(), non_neg_integer()}
}.
-export_type([pace/0]).

%% @doc The pace of readers that have not begun.
-spec new() -> pace().
new() ->
    #{others => none, rest => none, began => none, look => none}.

%% @doc Whether one more reader may begin beside `Running' others. Otherwise the caller asks
%% again when a reader has ended, and after the given time.
-spec next(integer(), non_neg_integer(), fun(() -> non_neg_integer()), pace()) ->
    {start, pace()} | {wait, pos_integer() | infinity, pace()}.
next(Now, 0, Work, Pace) ->
    rested(Now, looked(Now, Work, Pace));
next(Now, _Running, _Work, #{others := Others, began := Began} = Pace) when Others =/= none; Now - Began >= ?STRETCH ->
    {wait, infinity, Pace};
next(_Now, _Running, _Work, Pace) ->
    {start, Pace}.

%% @doc A reader has ended after this time.
-spec ended(integer(), non_neg_integer(), pace()) -> pace().
ended(_Now, _Took, #{others := none} = Pace) ->
    Pace;
ended(Now, Took, #{rest := Rest} = Pace) ->
    Turn = min(Took, ?LONGEST_TURN),
    Pace#{rest := later(Now, Rest) + max(?SHORTEST_LOOK, Turn * (100 - ?SHARE) div ?SHARE)}.

%% @doc The work that the process for files has done so far, in reductions.
-spec work() -> non_neg_integer().
work() ->
    try erlang:process_info(whereis(file_server_2), reductions) of
        {reductions, Count} -> Count;
        undefined -> 0
    catch
        error:badarg -> 0
    end.

%%% Private functions.

looked(Now, Work, #{look := none} = Pace) ->
    Pace#{look := {Now, Work()}};
looked(Now, _Work, #{look := {Since, _}} = Pace) when Now - Since < ?SHORTEST_LOOK ->
    Pace;
looked(Now, Work, #{look := {Since, Before}} = Pace) ->
    Count = Work(),
    seen(Now - Since, Count - Before, Pace#{look := {Now, Count}, began := none}).

seen(Time, Work, #{others := none} = Pace) when Work < ?USE * Time -> Pace;
seen(_Time, _Work, #{others := none} = Pace) -> Pace#{others := {0, 0}};
seen(Time, Work, #{others := {Looked, Seen}} = Pace) when Looked + Time < ?QUIET ->
    Pace#{others := {Looked + Time, Seen + Work}};
seen(Time, Work, #{others := {Looked, Seen}} = Pace) when Seen + Work < ?USE * (Looked + Time) ->
    Pace#{others := none, rest := none};
seen(_Time, _Work, Pace) ->
    Pace#{others := {0, 0}}.

rested(Now, #{rest := Rest} = Pace) when Rest =/= none, Now < Rest ->
    {wait, min(Rest - Now, ?LONGEST_LOOK), Pace};
rested(Now, #{others := none, began := Began} = Pace) when Began =/= none, Now - Began >= ?STRETCH ->
    {wait, ?GLANCE, Pace#{rest := Now + ?GLANCE}};
rested(Now, #{began := none} = Pace) ->
    {start, Pace#{began := Now, rest := none, look := none}};
rested(_Now, Pace) ->
    {start, Pace#{rest := none, look := none}}.

later(Now, none) -> Now;
later(Now, Rest) -> max(Now, Rest).
