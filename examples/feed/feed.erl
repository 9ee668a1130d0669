%%% @doc A feed of recorded process results, so that there is something to subscribe to.
%%%
%%% It does what a node would do with each computed slot: every outbox message and
%%% every output is handed to `dev_websocket:cast/2', a few a second, over and over.
%%% Prices walk, counts count and slots go on, so that a person sees that it lives.
-module(feed).
-export([main/1]).

%% Milliseconds between two casts.
-define(PACE, 250).
%% Milliseconds between two lines that tell how it goes.
-define(REPORT_EVERY, 10000).
%% Milliseconds until the engine must know the topics that were cast.
-define(TOPICS_DEADLINE, 5000).

%% @doc Run the feed on the recordings in a folder, and write to a file where
%% clients connect. Called with `-run', so this returns and a process goes on.
main([Folder, UriFile]) ->
    spawn(fun() ->
        try run(Folder, UriFile)
        catch Class:Reason:Trace ->
            io:format(standard_error, "The feed failed: ~p~n", [{Class, Reason, Trace}]),
            halt(1)
        end
    end).

run(Folder, UriFile) ->
    Uri = serve(),
    %% From here on a warning is worth reading.
    logger:set_primary_config(level, warning),
    Events = feed_recordings:events(Folder),
    %% The whole round at once, so that its topics are there to be shown.
    lists:foreach(fun(Event) -> cast(Event, 0) end, Events),
    Topics = topics(erlang:monotonic_time(millisecond) + ?TOPICS_DEADLINE),
    feed_banner:show(Uri, Topics),
    %% Last, since who reads it takes it that everything is up.
    ok = file:write_file(UriFile, [Uri, $\n]),
    {ok, _} = timer:send_interval(?REPORT_EVERY, report),
    go_on(Events, 1, length(Events)).

%% @doc Start the device. Where its port is taken, another one serves a demonstration just as well.
serve() ->
    {ok, _} = application:ensure_all_started(dev_websocket),
    case dev_websocket:info() of
        {ok, #{uri := Uri}} ->
            Uri;
        {error, {listen, #{address := Address, reason := Reason}}} ->
            ok = dev_websocket:start(#{port => 0}),
            {ok, #{uri := Uri}} = dev_websocket:info(),
            io:format("Cannot listen on ~ts (~ts), so this feed uses another port.~n", [Address, Reason]),
            Uri
    end.

%% @doc The topics that clients find, once the engine has dealt with all that was cast.
topics(Deadline) ->
    case dev_websocket:stats() of
        #{<<"publish_queued_bytes">> := 0} ->
            {ok, #{topics := [_ | _] = Topics}} = dev_websocket:info(),
            Topics;
        #{} ->
            true = erlang:monotonic_time(millisecond) < Deadline,
            timer:sleep(10),
            topics(Deadline)
    end.

go_on(Events, Round, Cast) ->
    Sum = lists:foldl(
        fun(Event, Count) ->
            wait(Count),
            cast(Event, Round),
            Count + 1
        end,
        Cast,
        Events
    ),
    go_on(Events, Round + 1, Sum).

wait(Count) ->
    Pause = erlang:start_timer(?PACE, self(), pause),
    wait(Pause, Count).

wait(Pause, Count) ->
    receive
        {timeout, Pause, pause} ->
            ok;
        report ->
            #{<<"connections">> := Connections} = dev_websocket:stats(),
            io:format("~b messages cast, ~b clients connected~n", [Count, Connections]),
            wait(Pause, Count)
    end.

cast(Event, Round) ->
    {ok, <<"OK">>} = dev_websocket:cast(feed_recordings:message(Event, Round), #{}).
