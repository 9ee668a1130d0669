%%% @doc Notes each time that a process or port kept a scheduler for long.
%%%
%%% On a machine that others use as well a thread also loses its core meanwhile, so
%%% what is noted has to be compared with what is noted while the engine is idle.
-module(soak_schedules).
-export([start/1, take/0]).

%% @doc Watch for what takes at least so many milliseconds.
start(Milliseconds) ->
    Watcher = spawn(fun() -> watch(#{}) end),
    register(?MODULE, Watcher),
    _ = erlang:system_monitor(Watcher, [{long_schedule, Milliseconds}]),
    ok.

%% @doc What was noted since the last call: `{In, Out, Count, LongestMs}', where a
%% function was scheduled in and out.
take() ->
    Ref = make_ref(),
    ?MODULE ! {take, self(), Ref},
    receive
        {Ref, Noted} -> [{In, Out, Count, Longest} || {{In, Out}, {Count, Longest}} <- maps:to_list(Noted)]
    end.

%%% Private functions.

watch(Noted) ->
    receive
        {monitor, Pid, long_schedule, Info} when is_pid(Pid) ->
            Place = {name(proplists:get_value(in, Info)), name(proplists:get_value(out, Info))},
            watch(note(Place, proplists:get_value(timeout, Info), Noted));
        {monitor, Port, long_schedule, Info} ->
            Operation = list_to_binary(io_lib:format("~tp", [proplists:get_value(port_op, Info)])),
            Name = list_to_binary(io_lib:format("port ~tp", [erlang:port_info(Port, name)])),
            watch(note({Name, Operation}, proplists:get_value(timeout, Info), Noted));
        {take, From, Ref} ->
            From ! {Ref, Noted},
            watch(#{})
    end.

note(Place, Milliseconds, Noted) ->
    Add = fun({Count, Longest}) -> {Count + 1, max(Longest, Milliseconds)} end,
    maps:update_with(Place, Add, {1, Milliseconds}, Noted).

name({Module, Function, Arity}) ->
    list_to_binary(io_lib:format("~s:~s/~b", [Module, Function, Arity]));
name(undefined) ->
    <<"-">>.
